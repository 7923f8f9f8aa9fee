"""Mounts, and the file systems that they show. Source: fs/namespace.c, fs/super.c."""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finalstage.kernel import Stat
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
    `written` that it has a file open for writing. `silent` means that its server does not answer.

    Mounts of one device are of one file system. `dirty` is about that, and the same in all.
    """

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
    silent: bool = False

    @property
    def key(self) -> str:
        return f"mount:{self.id}"

    @property
    def label(self) -> str:
        return self.target

    def holds(self, machine: Machine) -> Iterable[str]:
        """Return the mount that it is on, and the devices of its file system."""
        return (f"mount:{self.parent}", self.device)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return (self.device,)

    def mount_again(self, builder: Builder) -> None:
        """Mount its file system once more."""
        builder.mount(self.device)

    @property
    def source(self) -> str:
        """What mountinfo says that was mounted."""
        return "none"

    def unsaved(self) -> bool:
        return self.dirty and not self.readonly

    def line(self) -> str:
        """Return its line of mountinfo."""
        access = "ro" if self.readonly else "rw"
        options = f"{access},{self.options}" if self.options else access
        return (
            f"{self.id} {self.parent} {self.device} / {mangled(self.target)} {access} - "
            f"{self.fstype} {self.source} {options}"
        )

    def is_held(self, machine: Machine) -> bool:
        """Whether umount2 says EBUSY: a mount on it, an open file, or something else."""
        return (
            self.busy
            or any(self.device in process.holds for process in machine.processes.values())
            or bool(machine.holders(self.key))
        )

    def shares(self, machine: Machine) -> bool:
        """Whether its file system stays when it is unmounted."""
        return any(
            other is not self and isinstance(other, Mount | Unseen) and other.device == self.device
            for other in (*machine.mounts, *machine.others)
        )

    def write_back(self, kernel: SimKernel) -> None:
        """Write what is dirty in its file system to the devices, where it ends up dirty too."""
        machine = kernel.machine
        if self.silent:
            raise BlockedError
        if self.unsaved():
            machine.begin_write(self)
            for device in self.rests_on(machine):
                if machine.blocked(device):
                    raise BlockedError(device)
            for device in self.rests_on(machine):
                if machine.fails(device):
                    kernel.lose(self, "written to what only fails")
                if device in machine.devices:
                    machine.devices[device].dirty = True
        clean(machine, self.device)

    def syncfs(self, kernel: SimKernel) -> None:
        """Write its file system out. EIO if that does not work."""
        unsaved = self.unsaved()
        self.write_back(kernel)
        if unsaved and any(
            kernel.machine.fails(device) for device in self.rests_on(kernel.machine)
        ):
            raise error(errno.EIO, self.target)

    def umount(self, kernel: SimKernel, detach: bool, force: bool) -> None:
        """Unmount it: EBUSY while held, unless it is only detached, and with it what is on it."""
        machine = kernel.machine
        if force:
            self.silent = False
            kernel.let_go()
        if self not in machine.mounts:
            raise error(errno.EINVAL, self.target)  # who waited has unmounted it meanwhile
        if self.is_held(machine) and not detach:
            raise error(errno.EBUSY, self.target)
        if machine.holders(self.key) and not force:
            kernel.violations.append(f"detached {self.target} below what stands on it")
        gone = [self]
        for other in machine.mounts:
            if other.parent in [mount.id for mount in gone]:
                gone.append(other)
        for mount in gone:
            mount.parent = 0
            machine.mounts.remove(mount)
            machine.others.append(mount)
        self.leave(kernel, gone)

    def leave(self, kernel: SimKernel, mounts: list[Mount]) -> None:
        """Let go of mounts that have left the tree, when their file systems are written out:
        namespace_unlock(). Nobody sees them meanwhile."""
        while mounts:
            last = mounts[-1]
            if not last.shares(kernel.machine):
                try:
                    last.write_back(kernel)
                except BlockedError as blocked:
                    rest = lambda: self.leave(kernel, mounts)  # noqa: E731
                    raise BlockedError(blocked.device, rest=rest) from None
            kernel.machine.remove(mounts.pop())

    def move(self, machine: Machine, place: str) -> None:
        """Have it, and all that is mounted on it, at a place of the tree."""
        before = self.target
        self.parent = machine.mounts[0].id
        moved = [self]
        for other in machine.mounts:
            if other.parent in [mount.id for mount in moved]:
                moved.append(other)
        for mount in moved:
            old = mount.target
            mount.target = place + old[len(before) :]
            for thing in machine.things():
                thing.carry(mount.device, old, mount.target)

    def remount(self, kernel: SimKernel, readonly: bool, data: str) -> None:
        """Take other options; EBUSY if it cannot be read-only since something writes to it."""
        self.options = data or self.options
        if readonly and not self.readonly:
            if self.written or Frozen(self.device) in kernel.machine.others:
                raise error(errno.EBUSY, self.target)
            self.write_back(kernel)
            for other in kernel.machine.mounts:
                other.readonly |= other.device == self.device

    def freeze(self, kernel: SimKernel) -> None:
        """Write it out, and let nobody write to it; EBUSY if it is frozen already."""
        frozen = Frozen(self.device)
        if frozen in kernel.machine.others:
            raise error(errno.EBUSY, self.target)
        self.write_back(kernel)
        kernel.machine.others.append(frozen)

    def thaw(self, kernel: SimKernel) -> None:
        """Let it go on; EINVAL if it is not frozen."""
        frozen = Frozen(self.device)
        if frozen not in kernel.machine.others:
            raise error(errno.EINVAL, self.target)
        kernel.machine.remove(frozen)


@dataclass
class Frozen(Thing):
    """A file system that is frozen: it holds its device, mounted or not: freeze_super()."""

    device: str

    @property
    def key(self) -> str:
        return f"frozen:{self.device}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return (self.device,)


@dataclass
class Unseen(Thing):
    """A file system that is mounted in a namespace into which nobody can look."""

    device: str
    dirty: bool = True

    @property
    def key(self) -> str:
        return f"unseen:{self.device}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return (self.device,)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return (self.device,)

    def unsaved(self) -> bool:
        return self.dirty

    def write_back(self, kernel: SimKernel) -> None:
        """Write it out."""
        if self.dirty:
            kernel.machine.begin_write(self)
            if kernel.machine.blocked(self.device):
                raise BlockedError(self.device)
            if kernel.machine.fails(self.device):
                kernel.lose(self, "written to what only fails")
            kernel.machine.devices[self.device].dirty = True
            clean(kernel.machine, self.device)


def clean(machine: Machine, device: str) -> None:
    """Take in that a file system was written out: that is true of all of its mounts."""
    for thing in (*machine.mounts, *machine.others):
        if isinstance(thing, Mount | Unseen) and thing.device == device:
            thing.dirty = False


class MountKind(Kind):
    """Mounts."""

    name = "mount"
    places = ("/proc/self/mountinfo",)

    def draw(self, builder: Builder) -> None:
        """Mount a device somewhere, or once more what is mounted."""
        again = [mount for mount in builder.machine.mounts if mount.device in builder.devices]
        if again and builder.number(5) == 0:
            again[builder.number(len(again) - 1)].mount_again(builder)
        else:
            builder.mount(builder.take())

    def trouble(self, builder: Builder) -> None:
        """Let some be busy, and some of these be written to; some frozen, some where nobody
        looks."""
        machine = builder.machine
        for mount in machine.mounts[4:]:
            luck = builder.number(19)
            mount.busy = luck < 4
            mount.written = luck < 2
            if luck == 4:
                machine.others.append(Frozen(mount.device))
            if luck == 5 and mount.device in builder.devices:
                machine.others.append(Unseen(mount.device))

    def stat(self, kernel: SimKernel, path: str) -> Stat | None:
        """Describe the root of a vfat file system, the one kind of which somebody asks that."""
        found = [each for each in kernel.machine.mounts if each.target == path]
        if not found or found[-1].fstype != "vfat":
            return None
        return Stat(modes.S_IFDIR, found[-1].device, 1, "0:0", 0)

    def read(self, kernel: SimKernel, path: str) -> str:
        return "\n".join(mount.line() for mount in kernel.machine.mounts)


def mangled(path: str) -> str:
    """Return a path as mangle() writes it."""
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\n", "\\012")
