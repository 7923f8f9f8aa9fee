"""ext4 with its journal on another device. Sources: fs/ext4/sysfs.c, fs/jbd2/journal.c."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Process

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


@dataclass
class Journaled(Mount):
    """A mount of an ext4 whose journal is on the device `journal`; the process `thread` is the
    kernel's that writes it."""

    journal: str = ""
    thread: int = 0

    def holds(self, machine: Machine) -> Iterable[str]:
        return (*super().holds(machine), self.journal)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return (self.device, self.journal)

    def umount(self, kernel: SimKernel, detach: bool, force: bool) -> None:
        super().umount(kernel, detach, force)
        if not self.shares(kernel.machine):
            kernel.machine.processes.pop(self.thread, None)

    def mount_again(self, builder: Builder) -> None:
        builder.mount(self.device, "ext4", Journaled, journal=self.journal, thread=self.thread)


class JournalKind(Kind):
    """ext4 with its journal on another device: who that is says only the name of a thread."""

    name = "journal"
    places = ("/sys/fs/ext4", "/proc/fs/jbd2")

    def draw(self, builder: Builder) -> None:
        """Mount one on two devices on which nothing stands yet."""
        device, journal = builder.take(), builder.take()
        thread = 1000 + builder.next(0)
        builder.mount(device, "ext4", Journaled, journal=journal, thread=thread)
        name = f"jbd2/{builder.devices[journal].name}"
        builder.machine.processes[thread] = Process(thread, name, 2, "", kernel_thread=True)

    def read(self, kernel: SimKernel, path: str) -> str:
        """Return the number of the thread that writes the journal of the file system on NAME."""
        file = path.removeprefix(f"{self.places[0]}/")
        devices = kernel.machine.devices
        for mount in kernel.machine.mounts:
            device = devices.get(mount.device)
            if mount.fstype == "ext4" and device and file == f"{device.name}/journal_task":
                return f"{mount.thread}" if isinstance(mount, Journaled) else "<none>"
        raise error(errno.ENOENT, path)

    def listdir(self, kernel: SimKernel, path: str) -> list[str]:
        """List the journals, each by its device, and by its inode if it lies within ext4."""
        devices = kernel.machine.devices
        journals = []
        for mount in kernel.machine.mounts:
            if isinstance(mount, Journaled):
                journals.append(devices[mount.journal].name)
            elif mount.fstype == "ext4" and mount.device in devices:
                journals.append(f"{devices[mount.device].name}-8")
        return journals
