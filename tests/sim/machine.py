"""A simulated machine: block devices, mounts, swap areas and processes, and who holds whom.

What is special to a kind stands in its module in `tests.sim.kinds`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tests.sim.faults import BlockedError, error

if TYPE_CHECKING:
    from tests.sim.kernel import SimKernel
    from tests.sim.kinds.mount import Mount
    from tests.sim.kinds.swap import Swap

SIGHUP, SIGKILL, SIGTERM = 1, 9, 15


class Thing:
    """Whatever holds something, or is held: a device, a mount, a swap area, or something else.

    It goes by its `key`: ``major:minor``, ``mount:ID``, ``swap:PATH``. Who holds what is
    `transparent`, as a partition is, holds what this lies on.
    """

    transparent: ClassVar[bool] = False
    closable: ClassVar[bool] = False
    """Of what is no device, mount or swap area: whether there is a way to close it."""

    @property
    def key(self) -> str:
        """What it goes by."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """How people call it."""
        return self.key

    def holds(self, machine: Machine) -> Iterable[str]:
        """Return the keys of what cannot be closed while this is there."""
        raise NotImplementedError

    def rests_on(self, machine: Machine) -> Iterable[str]:
        """Return the devices to which its I/O goes on."""
        return ()

    def waits_for(self, machine: Machine) -> Iterable[str]:
        """Return other devices on which something is noted before it is written to."""
        return ()

    def unsaved(self) -> bool:
        """Whether it has something that what it rests on does not have yet."""
        return False

    def carry(self, device: str, before: str, after: str) -> None:
        """Take in that a mount of a device at a place was moved to another one."""

    def goes_at_last_close(self) -> bool:
        """Whether it goes by itself as soon as nothing holds it any more."""
        return False

    def pass_down(self, machine: Machine) -> None:
        """Have what is dirty in it in what it rests on, where it ends up dirty too."""


@dataclass
class Device(Thing):
    """A block device on others. `dirty` means that it has something that these do not have yet;
    so much of it as the kernel does not write by itself is lost with it.

    A dead one answers nothing; a failing one answers only with errors. A `busy` one has something
    in flight and goes on answering, whenever no other one is dead. One that has `gone` its driver
    has removed: only what stands on it still knows it, by a link to nowhere.
    """

    name: str
    device: str
    below: tuple[str, ...] = ()
    sectors: int = 2048
    dirty: bool = True
    failing: bool = False
    dead: bool = False
    busy: bool = False
    gone: bool = False

    kind: ClassVar[str] = ""

    @property
    def key(self) -> str:
        return self.device

    @property
    def label(self) -> str:
        return self.name

    def holds(self, machine: Machine) -> Iterable[str]:
        return self.below

    # What becomes of I/O to it.

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return self.below

    def unsaved(self) -> bool:
        return self.dirty

    def waits(self) -> bool:
        """Whether I/O to it never ends, whatever it lies on."""
        return self.dead

    def breaks(self, below: list[bool]) -> bool:
        """Whether I/O to it ends in an error, given for what it rests on whether that does."""
        return self.failing or any(below)

    def begin_write(self, machine: Machine) -> None:
        """Take in that something is about to be written to it."""

    def will_wait(self, machine: Machine) -> bool:
        """Whether the next write to it will wait for somebody who is not there."""
        return False

    def cure(self) -> None:
        """Have I/O to it end, in success or in an error, if the kernel has a way for that."""

    def has_key(self) -> bool:
        """Whether it has a key in memory."""
        return False

    def closes(self) -> bool:
        """Whether it should be gone in the end."""
        return True

    def opens(self) -> bool:
        """Whether anybody can open it, to flush it."""
        return True

    # What /sys shows in its directory.

    def read(self, kernel: SimKernel, name: str) -> str:
        """Return a file, without its last newline."""
        busy = self.busy and not any(d.dead for d in kernel.machine.devices.values())
        if name == "dev":
            return self.device
        if name == "size":
            return str(self.sectors)
        if name == "stat":
            done = int(kernel.now() * 1000) if busy else 1
            return f"1 0 8 0 {done} 0 8 0 0 0 0 0 0 0 0 1 0"
        if name == "inflight":
            return f"0 {int(self.dead or busy)}"
        if name.startswith("slaves/"):
            slave, _, rest = name.removeprefix("slaves/").partition("/")
            return kernel.device_named(slave).read(kernel, rest)
        raise error(errno.ENOENT, f"{self.name}/{name}")

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        """Take what is written to a file."""
        raise error(errno.ENOENT, f"{self.name}/{name}")

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        """List its directory, or one in it."""
        if name == "":
            return ["dev", "size", "stat", "inflight", "slaves"]
        if name == "slaves":
            return [kernel.machine.devices[lower].name for lower in self.below]
        raise error(errno.ENOENT, f"{self.name}/{name}")

    def readlink(self, kernel: SimKernel, name: str) -> str:
        """Return where a link in its directory leads to, or its entry in /sys/class/block."""
        if name:
            raise error(errno.ENOENT, f"{self.name}/{name}")
        return self.link(kernel.machine)

    def link(self, machine: Machine) -> str:
        """Return where its entry in /sys/class/block leads to."""
        return f"../../devices/virtual/block/{self.name}"

    # What can be done to it. An operation that a kind does not have is ENOTTY.

    def flush(self, kernel: SimKernel) -> None:
        """Open it, pass what is dirty in it to what it rests on, and close it."""
        machine = kernel.machine
        if self.dirty:
            machine.begin_write(self)
        if machine.blocked(self.device):
            raise BlockedError(self.device, opens=True)
        if machine.fails(self.device):
            raise error(errno.EIO, self.device)
        self.pass_down(machine)
        machine.closed(self.device)

    def pass_down(self, machine: Machine) -> None:
        if self.dirty:
            self.dirty = False
            for lower in self.rests_on(machine):
                machine.devices[lower].dirty = True

    def take_away(self, kernel: SimKernel) -> None:
        """Have all I/O to it fail from now on, also what is in flight. Of one that is gone, the
        partitions are too."""
        self.dead, self.failing = False, True
        for other in kernel.machine.devices.values():
            other.gone |= self.gone and other.transparent and self.key in other.below
        kernel.let_go()


AnyDevice = TypeVar("AnyDevice", bound=Device)


@dataclass
class Process:
    """A process. `holds` are devices whose file systems it has files open on, and `files` are other
    files that it has open, in /sys. Its program lies on the device `exe`."""

    pid: int
    name: str = "sleep"
    parent: int = 1
    argv0: str = "sleep"
    state: str = "S"
    kernel_thread: bool = False
    ignores_term: bool = False
    terminal: int = 0
    immortal: bool = False
    oom_score_adj: int = 0
    holds: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    exe: str = "0:30"

    def ends_by(self, signal: int, machine: Machine) -> bool:
        """Whether a signal has it end."""
        return (
            (signal == SIGKILL and not self.immortal)
            or (signal == SIGTERM and not self.ignores_term)
            or (signal == SIGHUP and not self.immortal)
        )

    def ended(self, kernel: SimKernel) -> None:
        """Take in that a signal has ended it."""


def drivers(mapper: str) -> str:
    """/proc/devices, with the number of the device mapper, which differs from boot to boot."""
    return f"Block devices:\n  7 loop\n  8 sd\n  9 md\n{mapper} device-mapper"


@dataclass
class Machine:
    """All of it. Devices go by ``major:minor``; `others` are what is no device, mount or swap. With
    a `foreign_init` PID 1 is not the stage's own, and stays."""

    devices: dict[str, Device] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    others: list[Thing] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    foreign_init: bool = False
    # Memory that is to be had, in KiB.
    available: int = 1 << 20
    kexec_loaded: bool = False
    command_line: str = "quiet"
    reboot_parameter: str = ""
    # Keys by user, as "type description", those that something in the kernel holds, and those of
    # its own that it lets root revoke.
    keyrings: dict[int, tuple[str, ...]] = field(default_factory=dict)
    pinned_keys: tuple[str, ...] = ()
    kernel_keys: set[str] = field(default_factory=set)
    # Key files, with the device of their file system; encrypted directories, with their keys.
    files: dict[str, str] = field(default_factory=dict)
    vaults: dict[str, bytes] = field(default_factory=dict)
    vault_keys: set[bytes] = field(default_factory=set)
    vaults_in_use: set[bytes] = field(default_factory=set)
    settings: dict[str, str] = field(
        default_factory=lambda: {
            "/proc/devices": drivers(mapper="253"),
            "/proc/sys/vm/panic_on_oom": "1",
            "/proc/sys/vm/drop_caches": "0",
            "/proc/sys/kernel/core_pattern": "core",
            "/proc/sys/kernel/printk_devkmsg": "ratelimit",
            "/proc/sys/kernel/keys/gc_delay": "300",
            "/sys/module/nvme_core/parameters/max_retries": "5",
            "/sys/module/dm_thin_pool/parameters/no_space_timeout": "60",
        }
    )
    # What lies in the system-shutdown folder, and how long it takes.
    hooks: tuple[str, ...] = ()
    hook_seconds: float = 0.1
    # What the tree carries for each moment, and how long each takes.
    moments: dict[str, dict[str, float]] = field(default_factory=dict)
    kernel_log: bytes = b""
    scrub_seconds: float = 0.5
    scrubbed: bool = False
    # EFI variables by path; efivarfs is seen once it is mounted. How long a value may be.
    efi: dict[str, bytes] = field(default_factory=dict)
    efi_mounted: bool = False
    efi_most: int = 1 << 15
    # What lies at the beginning of devices, where that is not zero.
    contents: dict[str, bytes] = field(default_factory=dict)
    immutable: set[str] = field(default_factory=set)
    # What was written to file systems, by device and path there.
    kept_files: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def things(self) -> Iterator[Thing]:
        """Yield all that can hold something."""
        return chain(self.devices.values(), self.mounts, self.swaps, self.others)

    def the(self, kind: type[AnyDevice], device: str) -> AnyDevice:
        """Return a device that is of a kind."""
        found = self.devices[device]
        assert isinstance(found, kind)
        return found

    def by_name(self, name: str) -> Device:
        """Return a device by its kernel name."""
        return next(device for device in self.devices.values() if device.name == name)

    def mount_of(self, path: str) -> Mount | None:
        """Return the mount that a path lies on."""
        found = None
        deepest = -1
        for mount in self.mounts:
            target = mount.target.rstrip("/")
            if len(target) >= deepest and (path == target or path.startswith(f"{target}/")):
                found, deepest = mount, len(target)
        return found

    def resolve(self, path: str) -> Mount:
        """Return the mount that the kernel finds at a path, from mount to mount: never one that
        another one hides."""
        ids = {mount.id for mount in self.mounts}
        found = next(mount for mount in self.mounts if mount.parent not in ids)
        while True:
            on_it = [
                mount
                for mount in self.mounts
                if mount.parent == found.id and (path + "/").startswith(mount.target + "/")
            ]
            if not on_it:
                return found
            found = min(reversed(on_it), key=lambda mount: len(mount.target))

    def holders(self, key: str) -> list[Thing]:
        """Return what holds a thing: while it is there, closing that is EBUSY."""
        found: list[Thing] = []
        for thing in self.things():
            if key in thing.holds(self):
                found += self.holders(thing.key) if thing.transparent else [thing]
        return found

    def remove(self, thing: Thing) -> None:
        """Take a thing away, with what is nothing without it, its partitions, and with what goes
        as the last that held it has gone."""
        held = list(thing.holds(self))
        if isinstance(thing, Device):
            del self.devices[thing.device]
            for other in list(self.devices.values()):
                if other.transparent and thing.device in other.below:
                    del self.devices[other.device]
        else:
            things: list[Any] = next(
                x for x in (self.mounts, self.swaps, self.others) if thing in x
            )
            things.remove(thing)
        for key in held:
            self.closed(key)

    def closed(self, key: str) -> None:
        """Take in that something that was open has been closed: whatever waits for that goes."""
        thing = self.devices.get(key) or next((t for t in self.others if t.key == key), None)
        if thing is None:
            return
        if thing.transparent:
            for lower in thing.holds(self):
                self.closed(lower)
        elif thing.goes_at_last_close() and not self.holders(key):
            thing.pass_down(self)  # blkdev_put() writes out its page cache
            self.remove(thing)

    def paths(self, thing: Thing) -> list[Device]:
        """Return all devices that the I/O of a thing passes, itself among them. Circles are no
        harm."""
        found: dict[str, Device] = {}
        todo = [thing.key] if isinstance(thing, Device) else list(thing.rests_on(self))
        while todo:
            key = todo.pop()
            device = self.devices.get(key)
            if device is not None and key not in found:
                found[key] = device
                todo += (*device.rests_on(self), *device.waits_for(self))
        return list(found.values())

    def begin_write(self, thing: Thing) -> None:
        """Tell all devices that the I/O of a thing passes that something is about to be written."""
        for device in self.paths(thing):
            device.begin_write(self)

    def reaches(self, device: str) -> list[Device]:
        """Return a device and all that its I/O passes."""
        return self.paths(self.devices[device]) if device in self.devices else []

    def blocked(self, device: str) -> bool:
        """Whether I/O to a device never ends: it, or something below, is suspended or hangs."""
        return any(lower.waits() for lower in self.reaches(device))

    def fails(self, device: str, above: frozenset[str] = frozenset()) -> bool:
        """Whether I/O to a device ends in an error."""
        if device not in self.devices or device in above:
            return False
        found = self.devices[device]
        above |= {device}
        return found.breaks([self.fails(lower, above) for lower in found.rests_on(self)])
