"""btrfs: a file system on several devices, of which mountinfo names one. Source: fs/btrfs."""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finalstage.kernel import Stat
from tests.sim.faults import error
from tests.sim.kind import Kind
from tests.sim.kinds.mount import Mount

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


@dataclass
class Btrfs(Mount):
    """A mount of a btrfs; `device` is its own number, which is that of no device. What is written
    is spread over all of `on`. `source` is the node of one of them."""

    on: tuple[str, ...] = ()
    node: str = ""

    @property
    def source(self) -> str:
        return self.node

    def holds(self, machine: Machine) -> Iterable[str]:
        return (f"mount:{self.parent}", *self.on)

    def rests_on(self, machine: Machine) -> Iterable[str]:
        return self.on


class BtrfsKind(Kind):
    """btrfs, on one to three devices, mounted once or twice."""

    name = "btrfs"
    places = ("/sys/fs/btrfs",)

    def draw(self, builder: Builder) -> None:
        """Make one of devices on which nothing stands yet."""
        on = tuple(builder.take() for _ in range(1 + builder.number(2)))
        node = f"/dev/{builder.devices[on[-1]].name}"
        device = f"0:{500 + builder.next(0)}"
        for _ in range(1 + builder.number(1)):
            builder.mount(device, "btrfs", Btrfs, on=on, node=node)

    def listdir(self, kernel: SimKernel, path: str) -> list[str]:
        """Each has a directory, and in it one with links named after its devices."""
        pools = {
            f"uuid-{mount.device}": mount.on
            for mount in kernel.machine.mounts
            if isinstance(mount, Btrfs)
        }
        if path in self.places:
            return ["features", *pools]
        uuid, _, rest = path.removeprefix(f"{self.places[0]}/").partition("/")
        if rest != "devices" or uuid not in pools:
            raise error(errno.ENOENT, path)
        devices = kernel.machine.devices
        return [devices[key].name for key in pools[uuid] if key in devices]

    def stat(self, kernel: SimKernel, path: str) -> Stat | None:
        for device in kernel.machine.devices.values():
            if path == f"/dev/{device.name}" and not device.gone:
                return Stat(modes.S_IFBLK, "0:6", 1, device.device, 0)
        return None
