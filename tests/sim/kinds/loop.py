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
    """A loop device on `backing`, a file on the file system of the device `lies_on`, or a device
    below."""

    backing: str = ""
    lies_on: str = ""
    autoclear: bool = False

    kind: ClassVar[str] = "loop"

    def holds(self, machine: Machine) -> Iterable[str]:
        """Return the mount of its file."""
        mounts = [mount for mount in machine.mounts if mount.device == self.lies_on]
        if len(mounts) > 1:
            found = machine.mount_of(self.backing.removesuffix(DELETED))
            mounts = [found] if found in mounts else mounts[:1]
        return (*self.below, *(mount.key for mount in mounts))

    def rests_on(self, machine: Machine) -> Iterable[str]:
        """Return what its file's file system lies on, a journal elsewhere among it."""
        mount = next((each for each in machine.mounts if each.device == self.lies_on), None)
        if mount is not None:
            return mount.rests_on(machine)
        return (self.lies_on,) if self.lies_on in machine.devices else self.below

    def carry(self, device: str, before: str, after: str) -> None:
        if self.lies_on == device and self.backing.startswith(f"{before}/"):
            self.backing = after + self.backing[len(before) :]

    def goes_at_last_close(self) -> bool:
        return self.autoclear

    def read(self, kernel: SimKernel, name: str) -> str:
        return self.backing if name == "loop/backing_file" else super().read(kernel, name)

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        if name == "":
            return [*(each for each in found if self.below or each != "slaves"), "loop"]
        return found

    def detach_loop(self, kernel: SimKernel) -> None:
        """It goes at once, or when nothing holds it any more: loop_clr_fd()."""
        if kernel.machine.holders(self.device):
            self.autoclear = True
        else:
            kernel.close(self)


class LoopKind(Kind):
    """Loop devices, some on files that have been deleted, some with autoclear."""

    name = "loop"

    def draw(self, builder: Builder) -> None:
        """Attach one to a file on a mount."""
        mounts = [mount for mount in builder.machine.mounts if mount.device in builder.devices]
        if not mounts:
            return
        mount = mounts[builder.number(len(mounts) - 1)]
        minor = builder.next(7)
        luck = builder.number(5)
        builder.put(
            Loop(
                f"loop{minor}",
                f"7:{minor}",
                backing=file_on(mount.target, minor) + (DELETED if luck == 0 else ""),
                lies_on=mount.device,
                autoclear=luck == 1,
            )
        )

    def trouble(self, builder: Builder) -> None:
        """Let one lie on a file system above itself."""
        machine = builder.machine
        loops = [
            (loop, mount)
            for loop in builder.of(Loop)
            for mount in machine.mounts
            if loop in machine.paths(mount)
        ]
        if loops and builder.number(5) == 0:
            loop, mount = loops[builder.number(len(loops) - 1)]
            loop.lies_on, loop.backing = mount.device, file_on(mount.target, 0)


def file_on(target: str, number: int) -> str:
    """Return the path of a file on a mount."""
    return f"{target.rstrip('/')}/{number}.img"
