"""The layers that stacks are made of: how the guest builds each, and how it judges each later.

A layer names what it lies on by its path below /dev: `disk/a`, `md0`, `mapper/crypt`, `vg/root`.
To build is shell text that ends with the layer open. To judge is shell text that first prints
facts, by `fact LAYER KEY VALUE`, and then opens the layer read-only, by `opens LAYER COMMAND…`,
so that the layers above can be judged. `clean` are the facts of a layer that was closed as it
should be. A new kind of layer is one more class like these.
"""

from __future__ import annotations

from tests.vm.layers.base import NONE, PASSPHRASE, ROOT, Common, Layer, Modules
from tests.vm.layers.bcache import Bcache, WaitingBcache
from tests.vm.layers.dm import (
    Linear,
    Mapped,
    Multipath,
    OddDevices,
    Slice,
    Slices,
    Snapshot,
    ThinPool,
    Verity,
    Written,
)
from tests.vm.layers.keyed import Crypt, Integrity, Luks
from tests.vm.layers.live import Verified, WriteCached
from tests.vm.layers.loop import Circle, Loop, LuksFile
from tests.vm.layers.lvm import Lvm, LvmZoo
from tests.vm.layers.md import (
    Container,
    Inactive,
    MonitorInRoot,
    Partitioned,
    Plain,
    Raid,
    Resyncing,
)
from tests.vm.layers.mounts import Bind, Btrfs, Ext4, Image, Nfs, Overlay, Vfat, Xfs
from tests.vm.layers.network import IscsiDisk, NetworkDisk, NvmeDisk
from tests.vm.layers.partitions import Gpt
from tests.vm.layers.swap import Swap, SwapFile, Zram

__all__ = [
    "NONE",
    "PASSPHRASE",
    "ROOT",
    "Bcache",
    "Bind",
    "Btrfs",
    "Circle",
    "Common",
    "Container",
    "Crypt",
    "Ext4",
    "Gpt",
    "Image",
    "Inactive",
    "Integrity",
    "IscsiDisk",
    "Layer",
    "Linear",
    "Loop",
    "Luks",
    "LuksFile",
    "Lvm",
    "LvmZoo",
    "Mapped",
    "Modules",
    "MonitorInRoot",
    "Multipath",
    "NetworkDisk",
    "Nfs",
    "NvmeDisk",
    "OddDevices",
    "Overlay",
    "Partitioned",
    "Plain",
    "Raid",
    "Resyncing",
    "Slice",
    "Slices",
    "Snapshot",
    "Swap",
    "SwapFile",
    "ThinPool",
    "Verified",
    "Verity",
    "Vfat",
    "WaitingBcache",
    "WriteCached",
    "Written",
    "Xfs",
    "Zram",
]
