"""Draws machines of any shape: what there is, from the disks up, and its troubles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.sim.kinds.disk import Disk
from tests.sim.kinds.mount import Mount
from tests.sim.machine import AnyDevice, Device, Machine

OWN_MOUNTS = 4
"""The tree's own, the first ones of each machine: nothing is drawn on /proc, /sys or /dev."""


class Builder:
    """Builds a machine. `draw` returns a number between 0 and its argument; `free` are the devices
    on which nothing stands yet."""

    def __init__(self, draw: Callable[[int], int], machine: Machine) -> None:
        self.number = draw
        self.machine = machine
        self.free: list[str] = []
        self._used: Counter[int] = Counter()

    @property
    def devices(self) -> dict[str, Device]:
        """All block devices so far."""
        return self.machine.devices

    def of(self, kind: type[AnyDevice]) -> list[AnyDevice]:
        """Return the devices of a kind."""
        return [device for device in self.devices.values() if isinstance(device, kind)]

    def next(self, major: int) -> int:
        """Return a minor number that is not in use."""
        self._used[major] += 1
        return self._used[major]

    def put(self, device: Device) -> None:
        """Add a device."""
        self.devices[device.device] = device
        self.free.append(device.device)

    def take(self, *kinds: str) -> str:
        """Draw a device that nothing stands on, of these kinds or of any; if there is none, it is a
        new disk, or "" where disks will not do."""
        found = [key for key in self.free if not kinds or self.devices[key].kind in kinds]
        if not found:
            if kinds and "disk" not in kinds:
                return ""
            minor = self.next(8)
            self.put(Disk(f"vd{minor}", f"8:{minor}"))
            found = self.free[-1:]
        key = found[self.number(len(found) - 1)]
        self.free.remove(key)
        return key

    def mount(
        self, device: str, fstype: str = "ext4", kind: type[Mount] = Mount, **more: Any
    ) -> Mount:
        """Mount a device at a place that is drawn; `more` are fields of such a mount."""
        mounts = self.machine.mounts
        place = mounts[self.number(len(mounts) - 1)]
        place = mounts[0] if place in mounts[1:OWN_MOUNTS] else place
        id = 100 + len(mounts)
        base = place.target.rstrip("/")
        luck = self.number(9)
        if luck == 0 and base:
            target = base  # over another mount
        elif luck == 1:
            target = f"{base}/d"  # over what is mounted below it
        else:
            target = f"{base}/d/m{id}" if luck < 4 else f"{base}/m{id}"
        parent = self.machine.resolve(target)
        mounts.append(kind(id, parent.id, target, device, fstype, **more))
        return mounts[-1]
