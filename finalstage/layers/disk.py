"""Disks, and every block device that no other kind claims: not closed, but flushed at the end."""

from __future__ import annotations

from errno import EBUSY, ENETRESET

from finalstage.progress import in_flight, transferred
from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "disk"
ANSWER_SECONDS = 0.5


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every device with a size in which no other kind has seen its own."""
    return [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="disk",
            name=block.name,
            below=tuple(block_id(slave) for slave in block.slaves),
            device=block.device,
            closes=False,
        )
        for block in world.blocks
        if block.sectors and block_id(block.device) not in world.claimed
    ]


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache and have the disk write out its own."""
    kernel.flush(layer.device)


close = settle


def release(kernel: Kernel, layer: Layer) -> str:
    """Have the disk answer again, or else have it fail what waits for it; by its transport.

    virtio-blk has no way: neither a time-out nor a reset that ends what it is to answer.

    Its driver may remove it meanwhile, by itself or after a reset. Then what waited for it has
    failed, and whatever could not be done to it is no matter.
    """
    try:
        return _release(kernel, layer)
    except OSError:
        if _is_there(kernel, layer):
            raise
        return "is gone"


def _is_there(kernel: Kernel, layer: Layer) -> bool:
    try:
        return bool(kernel.listdir(f"/sys/dev/block/{layer.device}"))
    except OSError:
        return False


def _release(kernel: Kernel, layer: Layer) -> str:
    if layer.name.startswith("nbd"):
        kernel.clear_nbd(layer.device)
        return "has lost its connection"
    if "device" not in kernel.listdir(f"/sys/dev/block/{layer.device}"):
        return ""
    device = f"/sys/dev/block/{layer.device}/device"
    entries = kernel.listdir(device)
    if layer.name.startswith("nvme"):
        return _release_nvme(kernel, _controllers(device, entries))
    if "state" in entries and "delete" in entries:
        return _release_scsi(kernel, layer, device)
    return ""


def _release_scsi(kernel: Kernel, layer: Layer, device: str) -> str:
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
        kernel.write(f"{device}/delete", b"1")
    return "was reset, and is offline"


def _controllers(device: str, entries: list[str]) -> list[str]:
    """Return the directories of the controllers that lead to an NVMe disk: one, or several."""
    if "reset_controller" in entries:
        return [device]
    return [f"{device}/{name}" for name in entries if name[:4] == "nvme" and name[4:].isdigit()]


def _release_nvme(kernel: Kernel, controllers: list[str]) -> str:
    """Have its driver take the controller for dead, and fail what waits for it.

    The driver resets a controller, and tries everything again, if it answers on its registers. So
    those are hidden first. Where that is not possible, nothing may be tried again, and the reset
    takes its time: a dead controller is asked to end its queues, for a minute. One behind a
    network can be deleted. A controller that is found dead is removed behind our back: from its
    reset on nothing of it may be there any more. Sources: nvme_reset_work(), nvme_dev_disable()
    and nvme_remove_dead_ctrl() in drivers/nvme/host/pci.c, nvme_decide_disposition() in core.c.
    """
    done = "has lost its controller"
    for controller in controllers:
        entries = kernel.listdir(controller)
        try:
            kernel.pci_hide(f"{controller}/device/config")
        except OSError:
            kernel.write("/sys/module/nvme_core/parameters/max_retries", b"0")
            done = "was reset, and nothing is tried again"
        try:
            kernel.write(f"{controller}/reset_controller", b"1")
        except OSError as error:
            # What a reset ends in that finds the controller dead, and what is said where the
            # driver has begun one by itself, after a time-out of its own.
            if error.errno not in (ENETRESET, EBUSY):
                raise
        if "delete_controller" in entries:
            kernel.write(f"{controller}/delete_controller", b"1")
            done = "has lost its controller"
    return done if controllers else ""


def _answers(kernel: Kernel, layer: Layer) -> bool:
    """Whether a disk, after a moment for what it had put off, is idle or goes on answering."""
    kernel.sleep(ANSWER_SECONDS)
    before = transferred(kernel, layer.device)
    kernel.sleep(ANSWER_SECONDS)
    return not in_flight(kernel, layer.device) or transferred(kernel, layer.device) != before
