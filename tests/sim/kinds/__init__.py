"""The kinds that the simulated kernel knows, one module each: all that is special to them.

A new kind is a new module here, named in `KINDS`. Its things are subclasses of
`tests.sim.machine.Device`, of `tests.sim.kinds.mount.Mount`, or of `tests.sim.machine.Thing`, and
say what they hold, what /sys shows of them, and what operations do to them: an operation of the
kernel on a device is the method of its name. What else there is to say is in a `Kind`.
"""

from __future__ import annotations

from tests.sim.kind import Kind
from tests.sim.kinds.bcache import BcacheKind
from tests.sim.kinds.btrfs import BtrfsKind
from tests.sim.kinds.container import ContainerKind
from tests.sim.kinds.disk import DiskKind
from tests.sim.kinds.dm import DmKind
from tests.sim.kinds.drbd import DrbdKind
from tests.sim.kinds.journal import JournalKind
from tests.sim.kinds.loop import LoopKind
from tests.sim.kinds.md import MdKind
from tests.sim.kinds.mount import MountKind
from tests.sim.kinds.nbd import NbdKind
from tests.sim.kinds.nvme import NvmeKind
from tests.sim.kinds.overlay import OverlayKind
from tests.sim.kinds.partition import PartitionKind
from tests.sim.kinds.rbd import RbdKind
from tests.sim.kinds.scsi import ScsiKind
from tests.sim.kinds.swap import SwapKind
from tests.sim.kinds.zfs import ZfsKind
from tests.sim.kinds.zram import ZramKind

KINDS: tuple[Kind, ...] = (
    DiskKind(),
    ScsiKind(),
    NvmeKind(),
    NbdKind(),
    RbdKind(),
    ZramKind(),
    DrbdKind(),
    ZfsKind(),
    PartitionKind(),
    DmKind(),
    MdKind(),
    ContainerKind(),
    BcacheKind(),
    LoopKind(),
    MountKind(),
    BtrfsKind(),
    JournalKind(),
    OverlayKind(),
    SwapKind(),
)

PLACES: dict[str, Kind] = {place: kind for kind in KINDS for place in kind.places}

ENTRIES: dict[str, Kind] = {kind.entry: kind for kind in KINDS if kind.entry}


def owner(path: str) -> Kind | None:
    """Return the kind to whose places a path belongs."""
    while path:
        if path in PLACES:
            return PLACES[path]
        path = path.rpartition("/")[0]
    return None
