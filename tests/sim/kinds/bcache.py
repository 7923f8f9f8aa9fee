"""bcache. Source: drivers/md/bcache/super.c, sysfs.c."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.machine import Device, Thing

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine

SETS = "/sys/fs/bcache"


@dataclass
class CacheSet(Thing):
    """A cache set on one device. It writes there when it goes: cache_set_flush()."""

    uuid: str
    cache: str
    stopping: bool = False

    closable: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return f"bcache:{self.uuid}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return (self.cache,)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return (self.cache,)

    def goes_at_last_close(self) -> bool:
        return self.stopping

    def pass_down(self, machine: Machine) -> None:
        machine.devices[self.cache].dirty = True

    def stop(self, kernel: SimKernel) -> None:
        """Stop all that is made with it, and go when that has gone: __cache_set_unregister()."""
        self.stopping = True
        for device in list(kernel.machine.devices.values()):
            if isinstance(device, Bcache) and device.set == self.key:
                device.stop(kernel)
        kernel.machine.closed(self.key)


@dataclass
class Waiting(Thing):
    """A backing device whose cache set is not there."""

    backing: str

    closable: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return f"bcache:{self.backing}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return (self.backing,)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return (self.backing,)


@dataclass
class Bcache(Device):
    """A device with a backing device below, and the cache of the set with the key `set`; or with
    that alone, which is a volume. One that is `closing` nobody can open any more."""

    set: str = ""
    closing: bool = False

    kind: ClassVar[str] = "bcache"

    def holds(self, machine: Machine) -> Iterable[str]:
        return (*self.below, self.set)

    def opens(self) -> bool:
        return not self.closing

    def goes_at_last_close(self) -> bool:
        return self.closing

    def unsaved(self) -> bool:
        return self.dirty and not self.closing  # who has it open writes past its page cache

    def flush(self, kernel: SimKernel) -> None:
        """Open it, which is refused when it is being closed: open_dev()."""
        if self.closing:
            raise error(errno.ENXIO, self.device)
        super().flush(kernel)

    def stop(self, kernel: SimKernel) -> None:
        """Go, or as soon as nobody has it open any more: bcache_device_stop()."""
        self.closing = True
        if not kernel.machine.holders(self.device):
            kernel.close(self)


class BcacheKind(Kind):
    """bcache: devices, volumes, and backing devices that wait. Some sets have been stopped while
    they were in use."""

    name = "bcache"
    places = (SETS,)
    entry = "bcache"

    def draw(self, builder: Builder) -> None:
        """Make one with two devices, and perhaps a volume in the same set; or let one wait. None
        lies on another one: both would have a directory of the same name there."""
        machine, minor = builder.machine, builder.next(251)
        taken = [builder.take() for _ in range(2 if builder.number(3) else 1)]
        if any(isinstance(builder.devices[each], Bcache) for each in taken):
            builder.free += taken
            return
        if len(taken) == 1:
            machine.others.append(Waiting(taken[0]))
            return
        backing, cache = taken
        found = CacheSet(f"{minor:08x}-1234", cache)
        machine.others.append(found)
        builder.put(Bcache(f"bcache{minor}", f"251:{minor}", (backing, cache), set=found.key))
        if builder.number(3) == 0:
            minor = builder.next(251)
            builder.put(Bcache(f"bcache{minor}", f"251:{minor}", (cache,), set=found.key))

    def trouble(self, builder: Builder) -> None:
        """Let sets be stopped that still have a device in use, and so wait for that."""
        machine = builder.machine
        for found in machine.others:
            if isinstance(found, CacheSet) and builder.number(5) == 0:
                made = [each for each in builder.of(Bcache) if each.set == found.key]
                if all(machine.holders(each.device) for each in made):
                    found.stopping = True
                    for each in made:
                        each.closing = True

    def has_entry(self, machine: Machine, device: Device) -> bool:
        return self._of(machine, device) is not None

    @staticmethod
    def _of(machine: Machine, device: Device) -> CacheSet | Waiting | Bcache | None:
        """Return what a device is part of, or is itself."""
        if isinstance(device, Bcache):
            return device
        found = [thing for thing in machine.others if isinstance(thing, CacheSet | Waiting)]
        for thing in found:
            if device.device in thing.holds(machine):
                return thing
        return _made_with(machine, device) if found else None

    @staticmethod
    def _set(machine: Machine, path: str) -> CacheSet | None:
        """Return the set whose directory a path lies in."""
        uuid = path.removeprefix(f"{SETS}/").partition("/")[0]
        sets = (thing for thing in machine.others if isinstance(thing, CacheSet))
        return next((found for found in sets if found.uuid == uuid), None)

    def listdir(self, kernel: SimKernel, path: str) -> list[str]:
        machine = kernel.machine
        if path == SETS and any(
            isinstance(x, CacheSet | Waiting | Bcache) for x in machine.things()
        ):
            return ["register", *(x.uuid for x in machine.others if isinstance(x, CacheSet))]
        device, _ = kernel.block(path)
        found = self._of(kernel.machine, device) if device else self._set(kernel.machine, path)
        if isinstance(found, CacheSet):
            return ["set", "nbuckets"] if device else ["stop", "unregister"]
        if isinstance(found, Waiting):
            return ["running", "stop"]
        if isinstance(found, Bcache):
            return ["cache", *(("dev", "running", "stop") if found.below[1:] else ("unregister",))]
        raise error(errno.ENOENT, path)

    def readlink(self, kernel: SimKernel, path: str) -> str:
        device, name = kernel.block(path)
        found = device and self._of(kernel.machine, device)
        if isinstance(found, CacheSet) and name == "bcache/set":
            return f"../../../../../fs/bcache/{found.uuid}"
        if isinstance(found, Bcache) and name == "bcache/cache":
            return f"../../../../fs/bcache/{found.set.removeprefix('bcache:')}"
        if isinstance(found, Bcache) and name == "bcache/dev":
            return f"../../{found.name}"
        raise error(errno.ENOENT, path)

    def write(self, kernel: SimKernel, path: str, data: bytes) -> None:
        """Stop something. What else can be written loses data, or writes all of it back."""
        machine = kernel.machine
        device, _ = kernel.block(path)
        found = self._of(machine, device) if device else self._set(machine, path)
        if found is None:
            raise error(errno.ENOENT, path)
        if not path.endswith("/stop"):
            kernel.violations.append(f"wrote to {path}")
        elif isinstance(found, Waiting):
            machine.remove(found)
        elif isinstance(found, CacheSet | Bcache):
            found.stop(kernel)


def _made_with(machine: Machine, device: Device) -> Bcache | None:
    """Return the device that a backing device is part of."""
    for other in machine.devices.values():
        if isinstance(other, Bcache) and other.below[:-1] == (device.device,):
            return other
    return None
