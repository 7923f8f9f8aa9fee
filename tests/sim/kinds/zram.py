"""zram devices. Source: drivers/block/zram/zram_drv.c."""

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
class Zram(Device):
    """One that keeps what is written to it in memory, or in part on the device below."""

    backing: str = "none"

    kind: ClassVar[str] = "zram"

    def closes(self) -> bool:
        return bool(self.sectors)

    def unsaved(self) -> bool:
        return False  # it is memory, and lost with that

    def read(self, kernel: SimKernel, name: str) -> str:
        return self.backing if name == "backing_dev" else super().read(kernel, name)

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        if name == "slaves":
            return []  # reset_store() and backing_dev_store() know no links
        return super().listdir(kernel, name)

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        """Reset it, which leaves one without a size: EBUSY while anything holds it."""
        if name != "reset":
            super().write(kernel, name, data)
        if kernel.machine.holders(self.device):
            raise error(errno.EBUSY, self.name)
        self.below, self.sectors, self.dirty = (), 0, False


class ZramKind(Kind):
    """zram devices."""

    name = "zram"

    def draw(self, builder: Builder) -> None:
        """Add one, by itself or with a device to which it writes what does not compress."""
        minor = builder.next(252)
        below = (builder.take(),) if builder.number(1) else ()
        backing = f"/oldroot/dev/{builder.devices[below[0]].name}" if below else "none"
        builder.put(Zram(f"zram{minor}", f"252:{minor}", below, backing=backing))
