"""Disks that nothing takes away, such as virtio-blk's, and what all disks have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.kind import Kind
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel


@dataclass
class Disk(Device):
    """A disk; `files` are what /sys shows of its driver."""

    kind: ClassVar[str] = "disk"
    files: ClassVar[tuple[str, ...]] = ("model",)

    def closes(self) -> bool:
        return False

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        if name == "":
            return [*super().listdir(kernel, name), "device"]
        return list(self.files) if name == "device" else super().listdir(kernel, name)

    def cut_off(self, kernel: SimKernel) -> None:
        """Have it go, held or not: what stands on it then finds only errors."""
        if not kernel.machine.holders(self.device):
            kernel.close(self)
            return
        if not kernel.machine.blocked(self.device):
            kernel.violations.append(f"cut off {self.name}, which answers and is held")
        self.gone = True
        self.take_away(kernel)


class DiskKind(Kind):
    """Disks."""

    name = "disk"

    def draw(self, builder: Builder) -> None:
        """Add one: none takes another one's place."""
        minor = builder.next(8)
        builder.put(Disk(f"vd{minor}", f"8:{minor}"))

    def trouble(self, builder: Builder) -> None:
        """Let some of any kind be dead."""
        for disk in builder.of(Disk):
            disk.dead = builder.number(7) == 0
