"""Network block devices. Source: drivers/block/nbd.c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.kind import Kind
from tests.sim.kinds.disk import Disk

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel


@dataclass
class Nbd(Disk):
    """One with a server; its number stays when it is disconnected, but its size is 0 then."""

    def cure(self) -> None:
        self.dead, self.failing = False, self.dead or self.failing

    def clear_nbd(self, kernel: SimKernel, disconnect: bool) -> None:
        """It has lost its connection, held or not."""
        if kernel.machine.holders(self.device):
            if not self.dead:
                kernel.violations.append(f"cut off {self.name}, which answers and is held")
        else:
            if self.unsaved():
                kernel.lose(self, "closed before it was flushed")
            self.sectors = 0
        self.take_away(kernel)


class NbdKind(Kind):
    """Network block devices."""

    name = "nbd"

    def draw(self, builder: Builder) -> None:
        """Add one."""
        minor = builder.next(43)
        builder.put(Nbd(f"nbd{minor}", f"43:{minor}"))
