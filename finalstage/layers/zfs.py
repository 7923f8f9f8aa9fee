"""ZFS: its volumes are flushed, and its pools named as what may hold the rest.

A pool holds its devices without a trace in /sys, and only its own ioctl, of no stable form, exports
it. What is on its devices is consistent at any time; unmounting and flushing write out the rest.
Its mounts are mounts like others. Sources: module/os/linux/zfs/vdev_disk.c, and spa_state_init() in
module/zfs/spa_stats.c, of OpenZFS.
"""

from __future__ import annotations

from errno import EOPNOTSUPP

from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "zfs"
NO_WAY = "only zpool exports it"
POOLS = "/proc/spl/kstat/zfs"


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every imported pool, and every volume, which stands on one of them; nobody tells on which."""
    pools = [
        Layer(id=f"zpool:{name}", kind=KIND, type="zpool", name=name, holds_unseen=True)
        for name in _pools(kernel)
    ]
    volumes = [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="zvol",
            name=block.name,
            below=tuple(pool.id for pool in pools),
            device=block.device,
            closes=False,
        )
        for block in world.numbered("zd")
    ]
    return volumes + pools


def _pools(kernel: Kernel) -> list[str]:
    """Return the names of the imported pools: each has a folder, among files of all of ZFS."""
    try:
        names = sorted(kernel.listdir(POOLS))
    except OSError:
        return []  # a kernel without ZFS, as nearly always
    found = []
    for name in names:
        try:
            kernel.read(f"{POOLS}/{name}/state")
        except OSError:
            continue
        found.append(name)
    return found


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out a volume's page cache, and have its pool write it."""
    if layer.device:
        kernel.flush(layer.device)


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush a volume; say that a pool stays."""
    if layer.closes:
        raise OSError(EOPNOTSUPP, NO_WAY, layer.name)
    settle(kernel, layer)
