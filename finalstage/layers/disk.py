"""Disks, and every block device that no other kind claims: not closed, but flushed at the end."""

from __future__ import annotations

from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "disk"
OTHER_KINDS = frozenset(("dm", "md", "partition"))


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every device with a size that is not of another kind."""
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
        if block.sectors and not block.entries & OTHER_KINDS
    ]


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache and have the disk write out its own."""
    kernel.flush(layer.device)


close = settle
