"""Swap areas. Source: mm/swapfile.c."""

from __future__ import annotations

import stat as modes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finalstage.kernel import Stat
from tests.sim.faults import BlockedError
from tests.sim.kind import Kind
from tests.sim.kinds.mount import mangled
from tests.sim.machine import Thing

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine

DELETED = " (deleted)"


@dataclass
class Swap(Thing):
    """A swap area on a block device, whose node at `path` is open, or has been deleted, or in a
    file at `path`, if `is_file`; then the device is that of its file system. `used` is in KiB."""

    path: str
    device: str
    is_file: bool = False
    used: int = 0

    @property
    def key(self) -> str:
        return f"swap:{self.path}"

    @property
    def label(self) -> str:
        return self.path

    def holds(self, machine: Machine) -> Iterable[str]:
        mount = machine.mount_of(self.path)
        device = () if self.is_file else (self.device,)
        return (*device, mount.key) if mount else device

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return (self.device,)

    def swapoff(self, kernel: SimKernel) -> None:
        """Read all back from it, and let go of it. What cannot be read is given up. The kernel
        would kill who asks for more than there is room for: set_current_oom_origin()."""
        machine = kernel.machine
        if machine.blocked(self.device):
            raise BlockedError(self.device)
        if self.used > machine.available:
            raise AssertionError(f"out of memory: {self.path}")
        machine.available -= self.used
        machine.remove(self)


class SwapKind(Kind):
    """Swap areas."""

    name = "swap"
    places = ("/proc/swaps",)

    def draw(self, builder: Builder) -> None:
        """Swap to a device, or to a file."""
        machine = builder.machine
        mounts = [mount for mount in machine.mounts if mount.device in builder.devices]
        if mounts and builder.number(2) == 0:
            mount = mounts[builder.number(len(mounts) - 1)]
            path = f"{mount.target.rstrip('/')}/swap{len(machine.swaps)}"
            machine.swaps.append(Swap(path, mount.device, is_file=True))
        else:
            device = builder.take()
            machine.swaps.append(Swap(f"/oldroot/dev/{device}", device))

    def read(self, kernel: SimKernel, path: str) -> str:
        rows = [
            f"{mangled(swap.path)} {'file' if swap.is_file else 'partition'} 100 {swap.used} -2"
            for swap in kernel.machine.swaps
        ]
        return "\n".join(("Filename Type Size Used Priority", *rows))

    def stat(self, kernel: SimKernel, path: str) -> Stat | None:
        for swap in kernel.machine.swaps:
            if swap.path == path and not path.endswith(DELETED):
                kind = modes.S_IFREG if swap.is_file else modes.S_IFBLK
                return Stat(kind, "0:6", 1, "0:0" if swap.is_file else swap.device, 0)
        return None
