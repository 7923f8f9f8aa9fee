"""Ceph's block devices: flushed, then removed, which the kernel refuses while they are open.

Source: Documentation/ABI/testing/sysfs-bus-rbd, do_rbd_remove() in drivers/block/rbd.c.
"""

from __future__ import annotations

from finalstage.layers.disk import settle
from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "rbd"
__all__ = ["KIND", "close", "release", "scan", "settle"]


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every one that is mapped."""
    return [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="rbd",
            name=block.name,
            device=block.device,
            is_disk=True,
        )
        for block in world.numbered("rbd")
    ]


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then remove it: EBUSY while it is open anywhere."""
    kernel.flush(layer.device)
    _remove(kernel, layer.name[3:])


def release(kernel: Kernel, layer: Layer) -> str:
    """Remove it though it is open: what is asked of it from then on fails."""
    _remove(kernel, f"{layer.name[3:]} force")
    return "was removed"


def _remove(kernel: Kernel, words: str) -> None:
    """The second file does not know devices that were added with one major number for all, which
    is the default; the first is not there otherwise."""
    try:
        kernel.write("/sys/bus/rbd/remove_single_major", words.encode())
    except FileNotFoundError:
        kernel.write("/sys/bus/rbd/remove", words.encode())
