"""Device-mapper devices: LVM volumes, dm-crypt, and everything else that dm maps."""

from __future__ import annotations

from errno import ENXIO

from finalstage.kernel import DmStatus, Target
from finalstage.stack import Layer
from finalstage.world import block_id, describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import Block, World

KIND = "dm"


UNREAD = "unread"
"""What stands for the targets of a device whose table could not be read."""

WITHOUT_MESSAGE = frozenset(("integrity", UNREAD))
"""Targets that may have a key, and no message that wipes it."""

KEYED_TARGETS = WITHOUT_MESSAGE | {"crypt"}


class Dm(Layer):
    """A device-mapper device. `targets` is empty where it has no live table."""

    uuid: str = ""
    targets: tuple[Target, ...] = ()
    suspended: bool = False
    inactive_table: bool = False

    @property
    def sectors(self) -> int:
        """The length of its live table."""
        return max((target.start + target.length for target in self.targets), default=0)

    @property
    def has_key(self) -> bool:
        """Whether a key is in its live table, or may be in its inactive one.

        An integrity target may have one, for a keyed checksum; its status does not say. Nor is
        anything known of one that could not be read.
        """
        return self.inactive_table or self.has_live_key

    @property
    def has_live_key(self) -> bool:
        """Whether a key is, or may be, in its live table."""
        return any(target.type in KEYED_TARGETS for target in self.targets)


def scan(kernel: Kernel, world: World) -> list[Dm]:
    """Every device of the device mapper."""
    found = []
    for block in world.blocks:
        if "dm" not in block.entries:
            continue
        problem = ""
        try:
            status = kernel.dm_status(block.device)
        except OSError as error:
            if error.errno == ENXIO:
                continue  # it has just gone
            status, problem = _unread(block), f"cannot read {block.name}: {describe(error)}"
        kinds = sorted({target.type for target in status.targets})
        found.append(
            Dm(
                id=block_id(block.device),
                kind=KIND,
                type="+".join(kinds) or "dm",
                name=status.name or block.name,
                below=tuple(block_id(slave) for slave in block.slaves),
                device=block.device,
                problem=problem,
                uuid=status.uuid,
                targets=status.targets,
                suspended=status.suspended,
                inactive_table=status.inactive_table,
            )
        )
    return found


def _unread(block: Block) -> DmStatus:
    """Return what has to be taken for the status of a device that does not tell: it has a key."""
    whole = Target(0, max(block.sectors, 0), UNREAD)
    return DmStatus(block.name, "", 0, False, False, True, (whole,))


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache, and the caches below.

    fsync on a device that is suspended or has no table never returns, and there is nothing that
    it could write.
    """
    assert isinstance(layer, Dm)
    if layer.targets and not layer.suspended:
        kernel.flush(layer.device)


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then remove it; that also where flushing failed, which is raised afterwards."""
    try:
        settle(kernel, layer)
    finally:
        kernel.dm_remove(layer.device)


def release(kernel: Kernel, layer: Layer) -> str:
    """Have what waits for it fail: what a suspended device has put off, what a multipath queues.

    What an active device has passed down is in flight there, and only from there to be freed.
    """
    assert isinstance(layer, Dm)
    if layer.suspended and layer.targets:
        replace_by_error(kernel, layer)
        return "fails all I/O from now on"
    for target in layer.targets:
        if target.type == "multipath":
            kernel.dm_message(layer.device, target.start, "fail_if_no_path")
            return "no longer queues I/O without a path"
    return ""


def replace_by_error(kernel: Kernel, layer: Dm) -> None:
    """Put an error table in place of the live one, which goes, and the keys in it."""
    kernel.dm_load_error(layer.device, layer.sectors)
    kernel.dm_resume(layer.device)


def wipe_keys(kernel: Kernel, layer: Dm) -> None:
    """Wipe the key of every crypt segment; the device must be suspended.

    The message reaches the one target at its sector, so each segment gets its own:
    crypt_message() in drivers/md/dm-crypt.c, target_message() in drivers/md/dm-ioctl.c.
    """
    for target in layer.targets:
        if target.type == "crypt":
            kernel.dm_message(layer.device, target.start, "key wipe")
