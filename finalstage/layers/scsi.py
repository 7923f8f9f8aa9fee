"""SCSI disks: flushed; those of an iSCSI session are then removed.

The session itself stays. Only iscsid's own netlink messages, which no header of the kernel's user
interface describes, would end it: iscsi_if_recv_msg() in drivers/scsi/scsi_transport_iscsi.c. It
is in nobody's way without its disks.
"""

from __future__ import annotations

from finalstage.layers.disk import is_there, settle
from finalstage.progress import in_flight, transferred
from finalstage.stack import Layer
from finalstage.world import block_id, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "scsi"
__all__ = ["KIND", "close", "hurry", "release", "scan", "settle"]

ANSWER_SECONDS = 0.5

RECOVERY_SECONDS = 5
"""For a lost iSCSI connection to come back. By default it is two minutes, and nobody may be left
who could connect again."""


class ScsiDisk(Layer):
    """A SCSI disk; `session` is the name of the iSCSI session that it is reached by, if any."""

    session: str = ""


def scan(kernel: Kernel, world: World) -> list[ScsiDisk]:
    """Every block device whose driver lets a SCSI disk be deleted."""
    found = []
    for block in world.blocks:
        if not block.sectors or "device" not in block.entries:
            continue
        if not {"state", "delete"}.issubset(kernel.listdir(_path(block.device))):
            continue
        session = _session(kernel.readlink(block.path))
        found.append(
            ScsiDisk(
                id=block_id(block.device),
                kind=KIND,
                type="iscsi" if session else "disk",
                name=block.name,
                device=block.device,
                closes=bool(session),
                is_disk=True,
                session=session,
            )
        )
    return found


def _path(device: str) -> str:
    return f"/sys/dev/block/{device}/device"


def _session(link: str) -> str:
    """Return the iSCSI session in a disk's path in /sys: …/host2/session1/target2:0:0/…"""
    for name in link.split("/"):
        if name[:7] == "session" and name[7:].isdigit():
            return name
    return ""


def hurry(kernel: Kernel, layer: Layer) -> None:
    """Have a lost connection fail what waits for it soon; to be asked before it is lost.

    From then on the kernel takes no such orders any more: iscsi_priv_session_attr_store() in
    drivers/scsi/scsi_transport_iscsi.c.
    """
    assert isinstance(layer, ScsiDisk)
    path = f"/sys/class/iscsi_session/{layer.session}/recovery_tmo"
    if layer.session and not 0 <= _number(text(kernel, path)) <= RECOVERY_SECONDS:
        kernel.write(path, str(RECOVERY_SECONDS).encode())


def _number(word: str) -> int:
    return int(word) if word.isdigit() else -1


def close(kernel: Kernel, layer: Layer) -> None:
    """Have it write out its cache; one of a session is deleted then, unless it is held.

    The kernel would delete a held one as well: sdev_store_delete() in drivers/scsi/scsi_sysfs.c.
    """
    if not layer.closes:
        settle(kernel, layer)
        return
    kernel.flush(layer.device, alone=True)
    kernel.write(f"{_path(layer.device)}/delete", b"1")


def release(kernel: Kernel, layer: Layer) -> str:
    """Have the disk answer again, or else have it fail what waits for it.

    Its driver may remove it meanwhile, by itself or after a reset. Then what waited for it has
    failed, and whatever could not be done to it is no matter.
    """
    try:
        if layer.closes:
            # Comes back once the connection is found lost, and what was in flight has failed.
            kernel.write(f"{_path(layer.device)}/delete", b"1")
            return "was deleted"
        return _reset(kernel, layer)
    except OSError:
        if is_there(kernel, layer):
            raise
        return "is gone"


def _reset(kernel: Kernel, layer: Layer) -> str:
    """Reset it. If that does not help, take it offline, and reset it once more: what comes back
    is not tried again then. Some, whose connection is lost, must be deleted.

    Sources: scsi_ioctl_reset() in drivers/scsi/scsi_error.c, store_state_field() and
    sdev_store_delete() in scsi_sysfs.c. virtio-scsi never lets a command run out of time.
    """
    kernel.reset_scsi(layer.device)
    if _answers(kernel, layer):
        return "was reset, and answers again"
    kernel.reset_scsi(layer.device, offline=True)
    if not _answers(kernel, layer):
        kernel.write(f"{_path(layer.device)}/delete", b"1")
    return "was reset, and is offline"


def _answers(kernel: Kernel, layer: Layer) -> bool:
    """Whether a disk, after a moment for what it had put off, is idle or goes on answering."""
    kernel.sleep(ANSWER_SECONDS)
    before = transferred(kernel, layer.device)
    kernel.sleep(ANSWER_SECONDS)
    return not in_flight(kernel, layer.device) or transferred(kernel, layer.device) != before
