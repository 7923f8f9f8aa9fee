"""ZFS. Source: module/os/linux/zfs/vdev_disk.c of OpenZFS."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.machine import Thing

if TYPE_CHECKING:
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine

PLACE = "/proc/spl/kstat/zfs"
OF_ALL = ("arcstats", "dbgmsg")


@dataclass
class Pool(Thing):
    """An imported pool; that it holds its devices cannot be seen."""

    name: str
    devices: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"zpool:{self.name}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return self.devices


class ZfsKind(Kind):
    """Pools. None is drawn: there is no way to close one."""

    name = "zfs"
    places = (PLACE,)

    def listdir(self, kernel: SimKernel, path: str) -> list[str]:
        pools = [thing.name for thing in kernel.machine.others if isinstance(thing, Pool)]
        if path != PLACE or not pools:
            raise error(errno.ENOENT, path)
        return [*OF_ALL, *pools]

    def read(self, kernel: SimKernel, path: str) -> str:
        for name in self.listdir(kernel, PLACE):
            if path == f"{PLACE}/{name}/state" and name not in OF_ALL:
                return "ONLINE"
        raise error(errno.ENOENT, path)
