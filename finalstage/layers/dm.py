"""Device-mapper devices: LVM volumes, dm-crypt, and everything else that dm maps."""

from __future__ import annotations

from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel, Target
    from finalstage.world import World

KIND = "dm"


class Dm(Layer):
    """A device-mapper device. `targets` is empty where it has no live table."""

    uuid: str = ""
    targets: tuple[Target, ...] = ()
    suspended: bool = False
    inactive_table: bool = False

    @property
    def has_key(self) -> bool:
        """Whether an encryption key is in its live table, or may be in its inactive one."""
        return self.inactive_table or any(target.type == "crypt" for target in self.targets)


def scan(kernel: Kernel, world: World) -> list[Dm]:
    """Every device of the device mapper."""
    found = []
    for block in world.blocks:
        if "dm" not in block.entries:
            continue
        status = kernel.dm_status(block.device)
        kinds = sorted({target.type for target in status.targets})
        found.append(
            Dm(
                id=block_id(block.device),
                kind=KIND,
                type="+".join(kinds) or "dm",
                name=status.name or block.name,
                below=tuple(block_id(slave) for slave in block.slaves),
                device=block.device,
                uuid=status.uuid,
                targets=status.targets,
                suspended=status.suspended,
                inactive_table=status.inactive_table,
            )
        )
    return found


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache, and the caches below.

    fsync on a device that is suspended or has no table never returns, and there is nothing that
    it could write.
    """
    assert isinstance(layer, Dm)
    if layer.targets and not layer.suspended:
        kernel.flush(layer.device)


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then remove it."""
    settle(kernel, layer)
    kernel.dm_remove(layer.device)


def wipe_keys(kernel: Kernel, layer: Dm) -> None:
    """Wipe the key of every crypt segment; the device must be suspended.

    The message reaches the one target at its sector, so each segment gets its own:
    crypt_message() in drivers/md/dm-crypt.c, target_message() in drivers/md/dm-ioctl.c.
    """
    for target in layer.targets:
        if target.type == "crypt":
            kernel.dm_message(layer.device, target.start, "key wipe")
