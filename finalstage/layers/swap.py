"""Swap areas: switched off, which reads everything in them back into memory."""

from __future__ import annotations

from finalstage.stack import Layer
from finalstage.world import SwapArea, World, block_id, mount_id, swap_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

KIND = "swap"


class Swap(Layer):
    """A swap area; `path` is what the kernel calls it."""

    path: str = ""


def scan(kernel: Kernel, world: World) -> list[Swap]:
    """Every line of /proc/swaps."""
    found = []
    for area in world.swaps:
        device = _device(kernel, area) if area.type == "partition" else ""
        mount = holding_mount(world, area.path)
        below = (block_id(device),) if device else ()
        found.append(
            Swap(
                id=swap_id(area.path),
                kind=KIND,
                type="swap",
                name=world.name_of(area.path),
                # The mount too: its file, or its device node in /dev, is open.
                below=below + ((mount,) if mount else ()),
                places=(mount,) if mount and device else (),
                path=area.path,
            )
        )
    return found


def close(kernel: Kernel, layer: Layer) -> None:
    """Switch it off."""
    assert isinstance(layer, Swap)
    kernel.swapoff(layer.path)


def settle(kernel: Kernel, layer: Layer) -> None:
    """Nothing: what is in swap is as lost as what is in memory."""


def release(kernel: Kernel, layer: Layer) -> str:
    """It has no way of its own; what it lies on may have."""
    return ""


def _device(kernel: Kernel, area: SwapArea) -> str:
    try:
        return kernel.stat(area.path).special
    except OSError:
        return ""  # its node is gone; swapoff will say so


def holding_mount(world: World, path: str) -> str:
    """Return the id of the mount that a path lies on: the last of those that reach deepest."""
    best = ""
    deepest = -1
    for mount in world.mounts:
        target = mount.target.rstrip("/")
        if (path == target or path.startswith(f"{target}/")) and len(target) >= deepest:
            best, deepest = mount_id(mount.id), len(target)
    return best
