"""Containers with external metadata, the arrays in them, and their monitors.

Sources: drivers/md/md.c, and monitor.c, managemon.c of mdadm.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.kinds.md import Md
from tests.sim.machine import SIGTERM, Device, Process

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


@dataclass
class Container(Device):
    """The disks that arrays share. It is never more than inactive, and has no size."""

    sectors: int = 0
    dirty: bool = False

    kind: ClassVar[str] = "container"

    def unsaved(self) -> bool:
        return False

    def read(self, kernel: SimKernel, name: str) -> str:
        files = {
            "md/array_state": "inactive",
            "md/level": "",
            "md/metadata_version": "external:imsm",
            "md/bitmap/location": "none",
        }
        return files[name] if name in files else super().read(kernel, name)

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return found if name else [*found, "md"]

    def flush(self, kernel: SimKernel) -> None:
        """It fails whatever it is asked: md_submit_bio()."""
        raise error(errno.EIO, self.device)

    def stop_array(self, kernel: SimKernel) -> None:
        """The kernel does not know that arrays belong to it. Their monitor does."""
        arrays = members(kernel.machine, self.device)
        if arrays and not out_of_sight(kernel, arrays):
            kernel.violations.append(f"stopped {self.label} before the arrays in it")
        kernel.close(self)


@dataclass
class Member(Md):
    """An array in a container. `noted` means that its metadata says that it is clean; it has been
    `kept` if it ever had a monitor. One that is `stuck` waits for that before a write. If it is
    `at_work`, its monitor cannot take it apart."""

    container: str = ""
    state: str = "active"
    noted: bool = False
    kept: bool = True
    stuck: bool = False
    at_work: bool = False

    def waits(self) -> bool:
        return self.stuck or super().waits()

    def will_wait(self, machine: Machine) -> bool:
        return self.state == "clean" and not self.has_monitor(machine)

    def cure(self) -> None:
        super().cure()
        self.stuck, self.state = False, "active"

    def read(self, kernel: SimKernel, name: str) -> str:
        if name == "md/array_state":
            return "write-pending" if self.stuck else self.state
        if name == "md/metadata_version":
            container = kernel.machine.devices.get(self.container)
            return f"external:/{container.name if container else 'gone'}/0"
        return super().read(kernel, name)

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        """Take a state: array_state_store()."""
        if name != "md/array_state":
            super().write(kernel, name, data)
        elif data == b"clean":
            self.state = "clean"
            self.noted |= self.has_monitor(kernel.machine)
        elif data == b"active":
            if self.stuck:  # on what is clean it does nothing: the next write waits all the same
                self.stuck, self.state = False, "active"
            kernel.let_go()
        elif data == b"inactive":
            kernel.refuse_while_held(self)
            self.state = "inactive"
            for monitor in monitors(kernel.machine, self.container):
                self._note_stop(kernel, monitor)

    def _note_stop(self, kernel: SimKernel, monitor: Monitor) -> None:
        """Have its monitor note that it was stopped, look after it no more, and take it apart. It
        tries that once: EBUSY while mddev_unlock() is still at work on what made it inactive."""
        self.noted = True
        monitor.files = tuple(file for file in monitor.files if f"/{self.name}/" not in file)
        if not self.at_work:
            self._stop(kernel)

    def has_monitor(self, machine: Machine) -> bool:
        """Whether its metadata is being kept."""
        return bool(monitors(machine, self.container))

    def begin_write(self, machine: Machine) -> None:
        """A write waits until its monitor has noted that it is not clean: md_write_start()."""
        if self.will_wait(machine):
            self.stuck = True
        elif self.state == "clean":
            self.state, self.noted = "active", False

    def flush(self, kernel: SimKernel) -> None:
        if self.state == "inactive":
            raise error(errno.EIO, self.device)
        super().flush(kernel)

    def stop_array(self, kernel: SimKernel) -> None:
        """Stop it outright."""
        kernel.refuse_while_held(self)
        if self.kept and not self.noted and not out_of_sight(kernel, [self]):
            kernel.lose(self, "nobody noted that it is clean")
        self._stop(kernel)

    def _stop(self, kernel: SimKernel) -> None:
        """Go. With the last one its monitor goes too: wait_and_act()."""
        kernel.close(self)
        machine = kernel.machine
        if not members(machine, self.container):
            for monitor in monitors(machine, self.container):
                del machine.processes[monitor.pid]


@dataclass
class Monitor(Process):
    """The process that keeps the metadata of a container; its program lies on the device `exe`."""

    name: str = "mdmon"
    container: str = ""

    def ends_by(self, signal: int, machine: Machine) -> bool:
        """SIGTERM has it wait until all its arrays are clean."""
        active = any(member.state == "active" for member in members(machine, self.container))
        return not (signal == SIGTERM and active) and super().ends_by(signal, machine)

    def ended(self, kernel: SimKernel) -> None:
        """Say if something may still be written that it should have noted."""
        machine = kernel.machine
        arrays = members(machine, self.container)
        for member in [] if out_of_sight(kernel, arrays) else arrays:
            writers = [
                mount.target
                for mount in machine.mounts
                if not mount.readonly and member in machine.paths(mount)
            ]
            if writers or not member.noted:
                words = f"ended the monitor of {member.label}, to which {writers} may write"
                kernel.violations.append(words)


def members(machine: Machine, container: str) -> list[Member]:
    """Return the arrays in a container."""
    found = (each for each in machine.devices.values() if isinstance(each, Member))
    return [member for member in found if member.container == container]


def monitors(machine: Machine, container: str) -> list[Monitor]:
    """Return the processes that keep its metadata, one or none."""
    found = (each for each in machine.processes.values() if isinstance(each, Monitor))
    return [monitor for monitor in found if monitor.container == container]


def out_of_sight(kernel: SimKernel, arrays: list[Member]) -> bool:
    """Whether a fault was in the way of seeing what some arrays are, or who keeps them."""
    looks = ("listdir", "read", "readlink", "stat")
    own = {member.name for member in arrays}
    return any(
        operation in looks and (name.startswith("/proc/") or own & set(name.split("/")))
        for operation, name in kernel.struck
    )


class ContainerKind(Kind):
    """Containers with one array or two, and their monitors, whose programs lie somewhere."""

    name = "container"

    def draw(self, builder: Builder) -> None:
        """Put a container on two disks, and mirrors in it."""
        below = (builder.take("disk"), builder.take("disk"))
        machine, minor = builder.machine, builder.next(9)
        container = Container(f"md{minor}", f"9:{minor}", below)
        machine.devices[container.device] = container
        places = [mount.device for mount in machine.mounts if mount.device in builder.devices]
        exe = places[builder.number(len(places) - 1)] if places and builder.number(1) else "0:2"
        arrays = []
        for _ in range(1 + builder.number(1)):
            minor = builder.next(9)
            builder.put(Member(f"md{minor}", f"9:{minor}", below, container=container.device))
            arrays.append(f"/sys/devices/virtual/block/md{minor}/md/array_state")
        pid = 3000 + minor
        machine.processes[pid] = Monitor(
            pid, holds=(exe,), exe=exe, files=tuple(arrays), container=container.device
        )

    def trouble(self, builder: Builder) -> None:
        """Let programs lie on what they keep, and let a monitor have died, while a write waited for
        it or not, or before there was any."""
        machine = builder.machine
        for monitor in [p for p in machine.processes.values() if isinstance(p, Monitor)]:
            arrays = members(machine, monitor.container)
            luck = builder.number(5)
            for array in arrays:
                array.at_work = builder.number(2) == 0
            above = [
                mount
                for mount in machine.mounts
                if any(array in machine.paths(mount) for array in arrays)
            ]
            if luck < 3 and above:
                device = above[builder.number(len(above) - 1)].device
                monitor.holds, monitor.exe = (device,), device
            elif luck == 5:
                del machine.processes[monitor.pid]
                for array in arrays:
                    array.kept = False
                    array.stuck = builder.number(1) == 0
                    array.state = "active" if array.stuck or builder.number(1) else "clean"
