"""Mounts, and the file systems that they show. Source: fs/namespace.c, fs/super.c."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.faults import BlockedError, error
from tests.sim.kind import Kind
from tests.sim.machine import Thing

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


@dataclass
class Mount(Thing):
    """A mount; `busy` means that something other than a process of the machine holds it, and
    `written` that it has a file open for writing."""

    id: int
    parent: int
    target: str
    device: str
    fstype: str = "ext4"
    busy: bool = False
    readonly: bool = False
    written: bool = False
    options: str = ""
    dirty: bool = True

    @property
    def key(self) -> str:
        return f"mount:{self.id}"

    @property
    def label(self) -> str:
        return self.target

    def holds(self, machine: Machine) -> Iterable[str]:
        """Yield the mount that it is on, and the devices of its file system."""
        return (f"mount:{self.parent}", self.device)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        """Return the devices to which its file system writes."""
        return (self.device,) if self.device in machine.devices else ()

    def line(self) -> str:
        """Return its line of mountinfo."""
        access = "ro" if self.readonly else "rw"
        options = f"{access},{self.options}" if self.options else access
        return (
            f"{self.id} {self.parent} {self.device} / {_mangled(self.target)} {access} - "
            f"{self.fstype} none {options}"
        )

    def is_held(self, machine: Machine) -> bool:
        """Whether umount2 says EBUSY: a mount on it, an open file, or something else."""
        return (
            self.busy
            or any(self.device in process.holds for process in machine.processes.values())
            or bool(machine.holders(self.key))
        )

    def write_back(self, kernel: SimKernel) -> None:
        """Write what is dirty in its file system to the devices, where it ends up dirty too."""
        machine = kernel.machine
        if self.dirty and not self.readonly:
            for device in self.rests_on(machine):
                if machine.blocked(device):
                    raise BlockedError
                if machine.fails(device) and self.target not in kernel.lost:
                    kernel.lost.append(self.target)
                machine.devices[device].dirty = True
        for other in machine.mounts:
            if other.device == self.device:
                other.dirty = False

    def umount(self, kernel: SimKernel, detach: bool) -> None:
        """Unmount it: EBUSY while held, unless it is only detached, and with it what is on it."""
        machine = kernel.machine
        if self.is_held(machine) and not detach:
            raise error(errno.EBUSY, self.target)
        self.write_back(kernel)
        gone = {self.id}
        for other in machine.mounts:
            if other.parent in gone:
                gone.add(other.id)
        machine.mounts = [other for other in machine.mounts if other.id not in gone]

    def remount(self, kernel: SimKernel, readonly: bool, data: str) -> None:
        """Take other options; EBUSY if it cannot be read-only since something writes to it."""
        self.options = data or self.options
        if readonly and not self.readonly:
            if self.written:
                raise error(errno.EBUSY, self.target)
            self.write_back(kernel)
            self.readonly = True

    def freeze(self, kernel: SimKernel) -> None:
        """Write it out, and let nobody write to it."""
        self.write_back(kernel)
        kernel.machine.others.append(Frozen(self.device))

    def thaw(self, kernel: SimKernel) -> None:
        """Let it go on; EINVAL if it is not frozen."""
        frozen = Frozen(self.device)
        if frozen not in kernel.machine.others:
            raise error(errno.EINVAL, self.target)
        kernel.machine.others.remove(frozen)


@dataclass
class Frozen(Thing):
    """A file system that is frozen: it holds its device, mounted or not: freeze_super()."""

    device: str

    @property
    def key(self) -> str:
        return f"frozen:{self.device}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return (self.device,)


class MountKind(Kind):
    """Mounts."""

    name = "mount"
    places = ("/proc/self/mountinfo",)

    def draw(self, builder: Builder) -> None:
        """Mount a device somewhere."""
        builder.mount(builder.take())

    def trouble(self, builder: Builder) -> None:
        """Let some be busy, and some of these be written to."""
        for mount in builder.machine.mounts[4:]:
            mount.busy = builder.number(5) == 0
            mount.written = mount.busy and builder.number(1) == 0

    def read(self, kernel: SimKernel, path: str) -> str:
        return "\n".join(mount.line() for mount in kernel.machine.mounts)


def _mangled(path: str) -> str:
    """Return a path as mangle() writes it."""
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\n", "\\012")
