"""zram devices: reset, which frees what they keep in memory.

All but a page for each processor, which stays as long as the allocator is loaded: vm_buf in
mm/zsmalloc.c. Source: Documentation/admin-guide/blockdev/zram.rst, reset_store() in
drivers/block/zram/zram_drv.c.
"""

from __future__ import annotations

from finalstage.layers.disk import settle
from finalstage.layers.loop import standing_on
from finalstage.stack import Layer
from finalstage.world import block_id, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "zram"
__all__ = ["KIND", "close", "scan", "settle"]


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every one with a size. It may write what does not compress to a device of its own."""
    return [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="zram",
            name=block.name,
            below=standing_on(world, _backing(kernel, block.path)),
            device=block.device,
        )
        for block in world.numbered("zram")
    ]


def _backing(kernel: Kernel, path: str) -> str:
    try:
        return text(kernel, f"{path}/backing_dev")
    except OSError:
        return ""  # a kernel without that feature


def close(kernel: Kernel, layer: Layer) -> None:
    """Reset it: EBUSY while it is open anywhere."""
    kernel.write(f"/sys/dev/block/{layer.device}/reset", b"1")
