"""Network block devices: flushed, then disconnected from their server.

Whoever connected one may wait in the kernel for its end, and goes by itself then. The connection
of a held device would be cut just as well, so it is opened alone first: drivers/block/nbd.c.
"""

from __future__ import annotations

from finalstage.layers.disk import settle
from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "nbd"
__all__ = ["KIND", "close", "release", "scan", "settle"]


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every one with a size; without a server they have none."""
    return [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="nbd",
            name=block.name,
            device=block.device,
            is_disk=True,
        )
        for block in world.numbered("nbd")
    ]


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, tell its server that this was all, and forget the connection."""
    kernel.flush(layer.device, alone=True)
    kernel.clear_nbd(layer.device, disconnect=True)


def release(kernel: Kernel, layer: Layer) -> str:
    """Forget the connection, so that what is in flight fails."""
    kernel.clear_nbd(layer.device)
    return "has lost its connection"
