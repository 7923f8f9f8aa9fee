"""DRBD devices: flushed, and named as what holds the rest.

Only its own netlink messages take one down, and they are not the same in the kernel (8.4) and in
what LINBIT ships (9): include/linux/drbd_genl.h. What is on its disk is consistent all the same;
its peer takes it for one that has crashed, and has the blocks of the activity log sent again.
"""

from __future__ import annotations

from errno import EOPNOTSUPP

from finalstage.layers.disk import settle
from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "drbd"
NO_WAY = "only drbdsetup takes it down"
__all__ = ["KIND", "NO_WAY", "close", "scan", "settle"]


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every one that has a disk, or a peer that has one; the others have no size."""
    return [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="drbd",
            name=block.name,
            below=tuple(block_id(slave) for slave in block.slaves),
            device=block.device,
        )
        for block in world.numbered("drbd")
    ]


def close(kernel: Kernel, layer: Layer) -> None:
    """Say that it stays; what stays is flushed."""
    raise OSError(EOPNOTSUPP, NO_WAY, layer.name)
