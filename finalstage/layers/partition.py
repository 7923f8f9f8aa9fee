"""Partitions: not closed, but flushed, since each has a page cache of its own."""

from __future__ import annotations

from finalstage.layers.disk import close, settle
from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "partition"
__all__ = ["KIND", "close", "scan", "settle"]


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every device that /sys shows below another one."""
    return [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="partition",
            name=block.name,
            below=(block_id(block.parent),) if block.parent else (),
            device=block.device,
            closes=False,
        )
        for block in world.blocks
        if "partition" in block.entries
    ]
