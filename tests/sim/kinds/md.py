"""md arrays. Source: drivers/md/md.c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.kind import Kind
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel


@dataclass
class Md(Device):
    """An array, of which each member has all data."""

    level: str = "raid1"

    kind: ClassVar[str] = "md"

    def breaks(self, below: list[bool]) -> bool:
        return self.failing or (bool(below) and all(below))

    def read(self, kernel: SimKernel, name: str) -> str:
        if name == "md/array_state":
            return "active"
        if name == "md/level":
            return self.level
        if name.startswith("md/dev-") and name.endswith("/state"):
            return "faulty" if self._member(kernel, name).failing else "in_sync"
        return super().read(kernel, name)

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        if name.startswith("md/dev-") and name.endswith("/state"):
            self._member(kernel, name)
        elif name != "md/suspend_lo":
            super().write(kernel, name, data)

    @staticmethod
    def _member(kernel: SimKernel, name: str) -> Device:
        return kernel.device_named(name.split("/")[1].removeprefix("dev-"))

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return found if name else [*found, "md"]

    def stop_array(self, kernel: SimKernel) -> None:
        """Stop it: EBUSY while anything holds it."""
        kernel.close(self)


class MdKind(Kind):
    """md arrays."""

    name = "md"

    def draw(self, builder: Builder) -> None:
        """Put a mirror on one device or two."""
        below = [builder.take()]
        if builder.free and builder.number(3):
            below.append(builder.take())
        minor = builder.next(9)
        builder.put(Md(f"md{minor}", f"9:{minor}", tuple(below)))
