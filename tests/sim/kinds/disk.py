"""Disks: SCSI, NVMe, NBD by their names, and others, which nothing takes away."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel


@dataclass
class Disk(Device):
    """A disk; a dead one that `revives` answers again when it is reset."""

    revives: bool = False

    kind: ClassVar[str] = "disk"

    def _entries(self) -> list[str]:
        entries = {"sd": ["state", "delete"], "nv": ["reset_controller"]}
        return entries.get(self.name[:2], ["model"])

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        if name == "":
            return [*super().listdir(kernel, name), "device"]
        return self._entries() if name == "device" else super().listdir(kernel, name)

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        file = name.removeprefix("device/")
        if file not in self._entries():
            raise error(errno.ENOENT, f"{self.name}/{name}")
        self.gone |= file == "reset_controller"  # its driver finds it dead
        self.take_away(kernel)

    def clear_nbd(self, kernel: SimKernel) -> None:
        """It has lost its connection."""
        self.take_away(kernel)

    def reset_scsi(self, kernel: SimKernel, offline: bool) -> None:
        """Have what is in flight tried again, or fail."""
        if offline:
            self.take_away(kernel)
        elif self.revives:
            self.dead = False
            kernel.let_go()


class DiskKind(Kind):
    """Disks."""

    name = "disk"

    def draw(self, builder: Builder) -> None:
        """Add one: none takes another one's place."""
        name = ("vd", "sd", "nvme", "nbd")[builder.number(3)]
        minor = builder.next(8)
        builder.put(Disk(f"{name}{minor}", f"8:{minor}"))

    def trouble(self, builder: Builder) -> None:
        """Let some be dead."""
        for disk in builder.of(Disk):
            disk.dead = builder.number(7) == 0
