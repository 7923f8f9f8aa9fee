"""Partitions: what holds one holds its disk, with which it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.kind import Kind
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


@dataclass
class Partition(Device):
    """A partition of the one device below."""

    kind: ClassVar[str] = "partition"
    transparent: ClassVar[bool] = True

    def closes(self) -> bool:
        return False

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return [*(each for each in found if each != "slaves"), "partition"] if not name else found

    def link(self, machine: Machine) -> str:
        return f"../../devices/virtual/block/{machine.devices[self.below[0]].name}/{self.name}"


class PartitionKind(Kind):
    """Partitions."""

    name = "partition"

    def draw(self, builder: Builder) -> None:
        """Partition a disk, an array or a loop device."""
        device = builder.take("disk", "md", "loop")
        if device:
            minor = builder.next(259)
            builder.put(Partition(f"part{minor}", f"259:{minor}", (device,)))
