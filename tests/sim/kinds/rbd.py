"""Ceph's block devices. Source: drivers/block/rbd.c."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.kinds.disk import Disk

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel

BUS = "/sys/bus/rbd"


@dataclass
class Rbd(Disk):
    """A mapped image, with a major number of its own or with that of all."""

    single_major: bool = True

    files: ClassVar[tuple[str, ...]] = ("name", "pool")


class RbdKind(Kind):
    """Mapped images."""

    name = "rbd"
    places = (BUS,)

    def draw(self, builder: Builder) -> None:
        """Add one."""
        minor = builder.next(251)
        builder.put(Rbd(f"rbd{minor}", f"251:{minor}"))

    def write(self, kernel: SimKernel, path: str, data: bytes) -> None:
        """Remove one: EBUSY while anything holds it, unless it is forced."""
        number, _, force = data.decode().partition(" ")
        for disk in kernel.machine.devices.values():
            if isinstance(disk, Rbd) and disk.name == f"rbd{number}":
                file = "remove_single_major" if disk.single_major else "remove"
                if path != f"{BUS}/{file}":
                    break
                if kernel.machine.holders(disk.device) and force != "force":
                    raise error(errno.EBUSY, disk.name)
                disk.cut_off(kernel)
                return
        raise error(errno.ENOENT, path)
