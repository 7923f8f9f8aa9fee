"""SCSI disks, some of them of an iSCSI session. Source: drivers/scsi/scsi_sysfs.c."""

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
    from tests.sim.machine import Machine


@dataclass
class Scsi(Disk):
    """A disk; a dead one that `revives` answers again when it is reset."""

    revives: bool = False
    session: str = ""

    files: ClassVar[tuple[str, ...]] = ("state", "delete")

    def cure(self) -> None:
        self.dead, self.failing = False, self.failing or (self.dead and not self.revives)

    def link(self, machine: Machine) -> str:
        host = f"host2/{self.session}" if self.session else "pci0000:00/host0"
        return f"../../devices/{host}/target0:0:0/0:0:0:0/block/{self.name}"

    def write(self, kernel: SimKernel, name: str, data: bytes) -> None:
        if name == "device/delete":
            self.cut_off(kernel)
        elif name != "device/state":
            raise error(errno.ENOENT, f"{self.name}/{name}")

    def reset_scsi(self, kernel: SimKernel, offline: bool) -> None:
        """Have what is in flight tried again, or fail."""
        if offline:
            self.take_away(kernel)
        elif self.revives:
            self.dead = False
            kernel.let_go()


class ScsiKind(Kind):
    """SCSI disks."""

    name = "scsi"
    places = ("/sys/class/iscsi_session",)

    def draw(self, builder: Builder) -> None:
        """Add one."""
        minor = builder.next(8)
        session = f"session{minor}" if builder.number(1) else ""
        builder.put(Scsi(f"sd{minor}", f"8:{minor}", session=session))

    def read(self, kernel: SimKernel, path: str) -> str:
        return kernel.machine.settings.get(path, "120")

    def write(self, kernel: SimKernel, path: str, data: bytes) -> None:
        kernel.machine.settings[path] = data.decode()
