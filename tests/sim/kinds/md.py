"""md arrays. Source: drivers/md/md.c, raid1.c."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from tests.sim.faults import BlockedError, error
from tests.sim.kind import Kind
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine

MAJOR = "9:"
LEVELS = {"linear": 1, "raid0": 1, "raid1": 1, "raid4": 3, "raid5": 3, "raid6": 4, "raid10": 2}
"""The least number of members that an array of each level is drawn with, the missing ones among
them."""


@dataclass
class Md(Device):
    """An array that can do without as many members as its level says. So many are `missing` from
    the start, and the `faulty` ones it does not write to any more. It fails everything when it is
    `broken`: MD_BROKEN. Its bitmap may be in the file `bitmap`."""

    level: str = "raid1"
    bitmap: str = ""
    missing: int = 0
    faulty: set[str] = field(default_factory=set)
    broken: bool = False

    kind: ClassVar[str] = "md"

    def spare(self) -> int:
        """Return how many more members it can do without."""
        members = len(self.below) + self.missing
        most = {"raid1": members - 1, "raid4": 1, "raid5": 1, "raid6": 2, "raid10": 1}
        return most.get(self.level, 0) - self.missing - len(self.faulty)

    def holds(self, machine: Machine) -> Iterable[str]:
        """Return the mount of its bitmap's file as well: set_bitmap_file()."""
        mount = machine.mount_of(self.bitmap) if self.bitmap else None
        return (*self.below, mount.key) if mount else self.below

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return [lower for lower in self.below if lower not in self.faulty]

    def waits_for(self, machine: Machine) -> Iterable[str]:
        """Return what its bitmap's file lies on: md_bitmap_unplug()."""
        mount = machine.mount_of(self.bitmap) if self.bitmap else None
        return mount.rests_on(machine) if mount else ()

    def breaks(self, below: list[bool]) -> bool:
        return self.failing or self.broken or sum(below) > self.spare()

    def read(self, kernel: SimKernel, name: str) -> str:
        if name == "md/array_state":
            return "active"
        if name == "md/level":
            return self.level
        if name == "md/metadata_version":
            return "1.2"
        if name == "md/bitmap/location":
            return "file" if self.bitmap else "none"
        if name.startswith("md/dev-") and name.endswith("/state"):
            member = self._member(kernel, name)
            return "faulty" if member.failing or member.device in self.faulty else "in_sync"
        return super().read(kernel, name)

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        if name.startswith("md/dev-") and name.endswith("/state") and data == b"faulty":
            self._fail(kernel, self._member(kernel, name))
        elif name != "md/suspend_lo":
            super().write(kernel, name, data)

    def _fail(self, kernel: SimKernel, member: Device) -> None:
        """Do without a member. What is in flight to it stays so: raid1_error()."""
        if not kernel.machine.blocked(member.device):
            kernel.violations.append(f"failed {member.label} of {self.label}, which answers")
        if self.spare() <= 0:
            self.broken = True
            raise error(errno.EBUSY, self.name)
        self.faulty.add(member.device)

    def _member(self, kernel: SimKernel, name: str) -> Device:
        member = kernel.device_named(name.split("/")[1].removeprefix("dev-"))
        if member.device not in self.below:
            raise error(errno.ENOENT, f"{self.name}/{name}")
        return member

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return found if name else [*found, "md"]

    def stop_array(self, kernel: SimKernel) -> None:
        """Stop it: EBUSY while anything holds it. It writes to all its members that it is clean:
        __md_stop_writes()."""
        kernel.refuse_while_held(self)
        if self.level not in ("linear", "raid0") and kernel.machine.blocked(self.device):
            raise BlockedError(self.device)
        kernel.close(self)


class MdKind(Kind):
    """md arrays, of arrays and of anything else; degraded ones among them, and ones with a bitmap
    in a file."""

    name = "md"
    places = ("/proc/mdstat",)

    def read(self, kernel: SimKernel, path: str) -> str:
        """Return what it shows of arrays with such a bitmap: md_seq_show()."""
        lines = ["Personalities : [raid1]"]
        for array in kernel.machine.devices.values():
            if isinstance(array, Md):
                lines += [f"{array.name} : active {array.level}", "      1024 blocks [2/2] [UU]"]
                if array.bitmap:
                    lines.append(f"      bitmap: 0/1 pages [0KB], 64KB chunk, file: {array.bitmap}")
                lines.append("      ")
        return "\n".join((*lines, "unused devices: <none>"))

    def stands_in(self, operation: str, device: str) -> bool:
        """To open the node of an array that is not there makes one without members: md_open()."""
        if not device.startswith(MAJOR):
            return False
        if operation == "flush":
            raise error(errno.EIO, device)
        return operation == "stop_array"

    def draw(self, builder: Builder) -> None:
        """Put an array on one to four devices."""
        level = list(LEVELS)[builder.number(len(LEVELS) - 1)]
        members = LEVELS[level] + builder.number(1)
        below = [builder.take() for _ in range(members)]
        minor = builder.next(9)
        array = Md(f"md{minor}", f"9:{minor}", tuple(below), level=level)
        if members > 1 and array.spare() > 0 and builder.number(3) == 0:
            builder.free.append(below[-1])
            array.below, array.missing = array.below[:-1], 1
        mounts = [mount for mount in builder.machine.mounts if mount.device in builder.devices]
        if mounts and array.spare() > 0 and builder.number(5) == 0:
            mount = mounts[builder.number(len(mounts) - 1)]
            array.bitmap = f"{mount.target.rstrip('/')}/{array.name}.bitmap"
        builder.put(array)
