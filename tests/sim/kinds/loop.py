"""Loop devices. Source: drivers/block/loop.c."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.kind import Kind
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine

DELETED = " (deleted)"


@dataclass
class Loop(Device):
    """A loop device on `backing`, a file on the file system of the device `lies_on`."""

    backing: str = ""
    lies_on: str = ""

    kind: ClassVar[str] = "loop"

    def holds(self, machine: Machine) -> Iterable[str]:
        """Yield the mount of its file."""
        found = machine.mount_of(self.backing.removesuffix(DELETED))
        if found is None or found.device != self.lies_on:
            found = next((each for each in machine.mounts if each.device == self.lies_on), None)
        return (*self.below, found.key) if found else self.below

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return (self.lies_on,) if self.lies_on in machine.devices else self.below

    def read(self, kernel: SimKernel, name: str) -> str:
        return self.backing if name == "loop/backing_file" else super().read(kernel, name)

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return found if name else [*found, "loop"]

    def detach_loop(self, kernel: SimKernel) -> None:
        """It goes at once, or when nothing holds it any more: __loop_clr_fd()."""
        if not kernel.machine.holders(self.device):
            kernel.close(self)


class LoopKind(Kind):
    """Loop devices."""

    name = "loop"

    def draw(self, builder: Builder) -> None:
        """Attach one to a file on a mount."""
        mounts = [mount for mount in builder.machine.mounts if mount.device in builder.devices]
        if mounts:
            mount = mounts[builder.number(len(mounts) - 1)]
            minor = builder.next(7)
            builder.put(
                Loop(
                    f"loop{minor}",
                    f"7:{minor}",
                    backing=f"{mount.target.rstrip('/')}/{minor}.img",
                    lies_on=mount.device,
                )
            )
