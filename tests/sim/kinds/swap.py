"""Swap areas. Source: mm/swapfile.c."""

from __future__ import annotations

import stat as modes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finalstage.kernel import Stat
from tests.sim.kind import Kind
from tests.sim.machine import Thing

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


@dataclass
class Swap(Thing):
    """A swap area on a block device, whose node at `path` is open."""

    path: str
    device: str

    @property
    def key(self) -> str:
        return f"swap:{self.path}"

    @property
    def label(self) -> str:
        return self.path

    def holds(self, machine: Machine) -> Iterable[str]:
        mount = machine.mount_of(self.path)
        return (self.device, mount.key) if mount else (self.device,)

    def swapoff(self, kernel: SimKernel) -> None:
        """Switch it off."""
        kernel.machine.swaps.remove(self)


class SwapKind(Kind):
    """Swap areas."""

    name = "swap"
    places = ("/proc/swaps",)

    def draw(self, builder: Builder) -> None:
        """Swap to a device."""
        device = builder.take()
        builder.machine.swaps.append(Swap(f"/oldroot/dev/{device}", device))

    def read(self, kernel: SimKernel, path: str) -> str:
        rows = (f"{swap.path} partition 100 0 -2" for swap in kernel.machine.swaps)
        return "\n".join(("Filename Type Size Used Priority", *rows))

    def stat(self, kernel: SimKernel, path: str) -> Stat | None:
        for swap in kernel.machine.swaps:
            if swap.path == path:
                return Stat(modes.S_IFBLK, "0:6", 1, swap.device, 0)
        return None
