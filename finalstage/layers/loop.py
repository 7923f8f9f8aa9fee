"""Loop devices: detached from the file or device behind them.

Beside its file, a loop device holds the credentials of whoever set it up: if that was cryptsetup,
its thread keyring with the volume key is among them. Source: drivers/block/loop.c, loop(4).
"""

from __future__ import annotations

from errno import EBUSY, ENXIO

from finalstage.stack import Layer
from finalstage.world import block_id, holding_mount, holding_mounts, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "loop"
DELETED = " (deleted)"


class Loop(Layer):
    """A loop device; `backing` is the file behind it, by its name before the pivot."""

    backing: str = ""


def scan(kernel: Kernel, world: World) -> list[Loop]:
    """Every loop device with something behind it; the others have no such directory in /sys."""
    found = []
    for block in world.blocks:
        if "loop" not in block.entries:
            continue
        path = _backing(kernel, f"{block.path}/loop/backing_file")
        # Its file may be hidden by a later mount, which may even stand on the loop device itself.
        mounts = holding_mounts(world, path)
        hidden = len(mounts) > 1
        found.append(
            Loop(
                id=block_id(block.device),
                kind=KIND,
                type="loop",
                name=block.name,
                below=() if hidden else standing_on(world, path),
                leans_on=tuple(mounts) if hidden else (),
                device=block.device,
                backing=world.name_of(path),
            )
        )
    return found


def standing_on(world: World, path: str) -> tuple[str, ...]:
    """Return the ids of what a file that is open in the kernel lies on: its mount, and if it is a
    block device's node that device."""
    folder, _, name = world.name_of(path).rpartition("/")
    device = world.by_name.get(name) if folder == "/dev" else None
    mount = holding_mount(world, path)
    return ((block_id(device),) if device else ()) + ((mount,) if mount else ())


def _backing(kernel: Kernel, path: str) -> str:
    try:
        return text(kernel, path).removesuffix(DELETED)
    except OSError:
        return ""  # it has just been detached, or its file cannot be named


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache, and its file's."""
    kernel.flush(layer.device)


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then detach it; that also where flushing failed, which is raised afterwards. EBUSY
    if it will go only when the last user does: of that the kernel says nothing.

    One with autoclear may have detached itself as its last user closed it, or as we close what we
    opened to flush it. Its partitions go with it.
    """
    try:
        settle(kernel, layer)
    except OSError as error:
        if error.errno != ENXIO:  # it has gone by itself
            raise
    finally:
        try:
            kernel.detach_loop(layer.device)
        except OSError as error:
            if error.errno != ENXIO:
                raise
    if _backing(kernel, f"/sys/dev/block/{layer.device}/loop/backing_file"):
        raise OSError(EBUSY, "in use", layer.name)
