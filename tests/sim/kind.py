"""What a module in `tests.sim.kinds` offers, beside the things of its kind."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from tests.sim.faults import error

if TYPE_CHECKING:
    from finalstage.kernel import Stat
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Device, Machine


class Kind:
    """A kind: how one is drawn, and what the kernel shows of it outside of a device's directory.

    `places` are files and directories in /proc and /sys that belong to the kind: what is asked of
    them, or of what lies below, comes here. So does what is asked of a directory of the name
    `entry` in that of any device that has one.
    """

    name: ClassVar[str]
    places: ClassVar[tuple[str, ...]] = ()
    entry: ClassVar[str] = ""

    def draw(self, builder: Builder) -> None:
        """Put one on top of what there is, or do nothing where that is not possible."""

    def trouble(self, builder: Builder) -> None:
        """Bring those of this kind into states that they can be in, but had better not."""

    def has_entry(self, machine: Machine, device: Device) -> bool:
        """Whether a device, of whatever kind, has the directory `entry` in its own."""
        return False

    def read(self, kernel: SimKernel, path: str) -> str:
        """Return a file in one of the places."""
        raise error(errno.ENOENT, path)

    def write(self, kernel: SimKernel, path: str, data: bytes) -> None:
        """Take what is written to a file in one of the places."""
        raise error(errno.ENOENT, path)

    def listdir(self, kernel: SimKernel, path: str) -> list[str]:
        """List a directory in one of the places."""
        raise error(errno.ENOENT, path)

    def readlink(self, kernel: SimKernel, path: str) -> str:
        """Return a symbolic link in one of the places."""
        raise error(errno.EINVAL, path)

    def stands_in(self, operation: str, device: str) -> bool:
        """Whether an operation on a device that is not there succeeds, since to open its node makes
        one. It may also raise."""
        return False

    def stat(self, kernel: SimKernel, path: str) -> Stat | None:
        """Describe a file wherever it lies, such as a device node; None if it is not known."""
        return None
