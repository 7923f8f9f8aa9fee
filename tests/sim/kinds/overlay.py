"""Overlays: they keep alive the file systems of their directories. Source: fs/overlayfs/super.c."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finalstage.stage import OLD_ROOT
from tests.sim.kind import Kind
from tests.sim.kinds.mount import Mount, Unseen

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


@dataclass
class Clone(Unseen):
    """A mount of a file system that nobody but an overlay sees: clone_private_mount()."""

    overlay: int = 0
    on: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"clone:{self.overlay}:{self.device}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return self.on

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return self.on


@dataclass
class Overlay(Mount):
    """An overlay; what is written to it is in the file system of `upper`, a device of it."""

    upper: tuple[str, ...] = ()

    def holds(self, machine: Machine) -> Iterable[str]:
        return (f"mount:{self.parent}",)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return self.upper

    def clones(self, machine: Machine) -> list[Clone]:
        """Return the mounts that only it sees."""
        return [x for x in machine.others if isinstance(x, Clone) and x.overlay == self.id]

    def umount(self, kernel: SimKernel, detach: bool, force: bool) -> None:
        """Its clones go with it, and with the last of its mounts each file system."""
        machine = kernel.machine
        if self in machine.mounts and not self.is_held(machine):
            for clone in self.clones(machine):
                others = (*machine.mounts, *(x for x in machine.others if x is not clone))
                if not any(
                    isinstance(x, Mount | Unseen) and x.device == clone.device for x in others
                ):
                    clone.write_back(kernel)
        super().umount(kernel, detach, force)
        for clone in self.clones(machine):
            machine.remove(clone)


class OverlayKind(Kind):
    """Overlays of directories on mounts: some that are still called as in an initramfs, and some
    whose mounts are not to be seen any more."""

    name = "overlay"

    def draw(self, builder: Builder) -> None:
        """Mount one of two directories somewhere, perhaps on the same mount."""
        mounts = [mount for mount in builder.machine.mounts if mount.device in builder.devices]
        if not mounts:
            return
        lower, upper = (mounts[builder.number(len(mounts) - 1)] for _ in range(2))
        before = "/sysroot" * (builder.number(2) == 0)
        places = [before + each.target.removeprefix(OLD_ROOT) for each in (lower, upper)]
        options = f"lowerdir={places[0]}/l,upperdir={places[1]}/u,workdir={places[1]}/w"
        overlay = builder.mount(
            f"0:{800 + builder.next(0)}",
            "overlay",
            Overlay,
            options=options,
            dirty=False,
            upper=tuple(upper.rests_on(builder.machine)),
        )
        for device, mount in {each.device: each for each in (lower, upper)}.items():
            on = tuple(mount.rests_on(builder.machine))
            builder.machine.others.append(Clone(device, overlay=overlay.id, on=on))
