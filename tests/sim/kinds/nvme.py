"""NVMe disks, some of them behind a network. Source: drivers/nvme/host/core.c."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.kinds.disk import Disk

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel

REMOTE = ("delete_controller", "fast_io_fail_tmo")


@dataclass
class Nvme(Disk):
    """The one disk of a controller."""

    transport: str = "pcie"

    files: ClassVar[tuple[str, ...]] = ("reset_controller", "transport")

    def cure(self) -> None:
        self.dead, self.failing = False, self.dead or self.failing

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return [*found, *REMOTE] if name == "device" and self.transport != "pcie" else found

    def readlink(self, kernel: SimKernel, name: str) -> str:
        if name != "device":
            return super().readlink(kernel, name)
        return f"../../{self.name.partition('n1')[0]}"

    def read(self, kernel: SimKernel, name: str) -> str:
        return self.transport if name == "device/transport" else super().read(kernel, name)

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        """A controller that is reset is found dead by its driver."""
        if name.removeprefix("device/") not in self.listdir(kernel, "device"):
            raise error(errno.ENOENT, f"{self.name}/{name}")
        if name == "device/delete_controller":
            self.cut_off(kernel)
        elif name == "device/reset_controller":
            self.gone = True
            self.take_away(kernel)


class NvmeKind(Kind):
    """NVMe disks."""

    name = "nvme"

    def draw(self, builder: Builder) -> None:
        """Add one."""
        minor = builder.next(259)
        transport = ("pcie", "tcp")[builder.number(1)]
        builder.put(Nvme(f"nvme{minor}n1", f"259:{minor}", transport=transport))
