"""Disks, and every block device that no other kind claims: not closed, but flushed at the end.

virtio-blk has no way to be released: neither a time-out nor a reset that ends what it is to answer.
"""

from __future__ import annotations

from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "disk"


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
            is_disk=True,
        )
        for block in world.blocks
        if block.sectors and block_id(block.device) not in world.claimed
    ]


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache and have the disk write out its own."""
    kernel.flush(layer.device)


close = settle


def is_there(kernel: Kernel, layer: Layer) -> bool:
    """Whether a disk has not been removed by its driver."""
    try:
        return bool(kernel.listdir(f"/sys/dev/block/{layer.device}"))
    except OSError:
        return False
