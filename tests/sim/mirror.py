"""The simulated machine that is like a real one, as scan has seen that: clean, and held by nobody
but by its own layers. A new kind that has scenarios is one more function here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from finalstage.stack import Layer, Stack
from tests.sim.kinds.bcache import Bcache, CacheSet, Waiting
from tests.sim.kinds.btrfs import Btrfs
from tests.sim.kinds.container import Container, Member, Monitor, members
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.nbd import Nbd
from tests.sim.kinds.overlay import Clone, Overlay
from tests.sim.kinds.partition import Partition
from tests.sim.kinds.scsi import Scsi
from tests.sim.kinds.swap import Swap
from tests.sim.kinds.zram import Zram
from tests.sim.machine import Device, Machine, Thing, drivers


def machine_like(stack: Stack) -> Machine:
    """Return such a machine."""
    machine = Machine()
    for layer in stack.layers:
        MIRRORS[layer.kind](machine, layer)
    for mount in machine.mounts:
        if isinstance(mount, Btrfs):
            mount.node = f"/dev/{machine.devices[mount.on[0]].name}"
    return machine


def _devices(layer: Layer) -> tuple[str, ...]:
    """Return the devices that a layer holds."""
    held = (lower for lower in layer.below if lower not in layer.leans_on)
    blocks = (lower for lower in held if lower.startswith("block:"))
    return tuple(lower.removeprefix("block:") for lower in blocks)


def _put(machine: Machine, device: Device) -> None:
    device.dirty = False
    machine.devices[device.device] = device


def _mount(machine: Machine, layer: Any) -> None:
    parent = next((lower for lower in layer.below if lower.startswith("mount:")), "mount:0")
    mount = FILE_SYSTEMS.get(layer.type, Mount)(
        id=int(layer.id.removeprefix("mount:")),
        parent=int(parent.removeprefix("mount:")),
        target=layer.target,
        device=layer.device,
        fstype=layer.type,
        readonly=not layer.writable,
        dirty=False,
    )
    machine.mounts.append(mount)
    if isinstance(mount, Btrfs):
        mount.on = _devices(layer)
    if isinstance(mount, Overlay):
        mount.options = layer.super_options
        below = [other for other in machine.mounts if other.key in layer.below]
        mount.upper = tuple(below[-1].rests_on(machine)) if below else ()
        for device, other in {
            other.device: other for other in below if other.id != mount.parent
        }.items():
            on = tuple(other.rests_on(machine))
            machine.others.append(Clone(device, False, overlay=mount.id, on=on))


FILE_SYSTEMS: dict[str, type[Mount]] = {"btrfs": Btrfs, "overlay": Overlay}


def _swap(machine: Machine, layer: Any) -> None:
    on = _devices(layer)
    mount = machine.mount_of(layer.path)
    device = on[0] if on else mount.device if mount else ""
    machine.swaps.append(Swap(layer.path, device, is_file=not on))


def _dm(machine: Machine, layer: Any) -> None:
    major, _, minor = layer.device.partition(":")
    machine.settings["/proc/devices"] = drivers(mapper=major)
    device = Dm(f"dm-{minor}", layer.device, _devices(layer))
    device.title, device.uuid, device.targets = layer.name, layer.uuid, layer.targets
    device.suspended, device.inactive_table = layer.suspended, layer.inactive_table
    device.keyed, device.sectors = layer.has_live_key, layer.sectors
    _put(machine, device)


def _loop(machine: Machine, layer: Any) -> None:
    mount = machine.mount_of(layer.backing)
    below = _devices(layer)
    lies_on = "" if below or mount is None else mount.device
    _put(machine, Loop(layer.name, layer.device, below, backing=layer.backing, lies_on=lies_on))


def _md(machine: Machine, layer: Any) -> None:
    names = layer.name, layer.device
    if layer.is_container:
        _put(machine, Container(*names, _devices(layer)))
    elif layer.container:
        container = machine.by_name(layer.container).device
        below = tuple(lower for lower in _devices(layer) if lower != container)
        array = Member(*names, below, level=layer.type, container=container, state=layer.state)
        array.kept, array.noted = False, layer.state == "clean"
        _put(machine, array)
    else:
        _put(machine, Md(*names, _devices(layer), level=layer.type))


def _monitor(machine: Machine, layer: Any) -> None:
    files = tuple(f"/sys/devices/virtual/block/{name}/md/array_state" for name in layer.arrays)
    container = layer.below[0].removeprefix("block:")
    machine.processes[layer.pid] = Monitor(layer.pid, files=files, container=container)
    for array in members(machine, container):
        array.kept = True


def _bcache(machine: Machine, layer: Any) -> None:
    """A cache set has no device, nor has a backing device that waits for one."""
    uuid = next((key for key in layer.below if key.startswith("bcache:")), "")
    if layer.device:
        _put(machine, Bcache(layer.name, layer.device, layer.held, set=uuid))
    elif layer.type == "bcache set":
        machine.others.append(CacheSet(layer.name, *layer.held))
    else:
        machine.others.append(Waiting(*layer.held))


MIRRORS: dict[str, Callable[[Machine, Layer], None]] = {
    "bcache": _bcache,
    "disk": lambda machine, layer: _put(machine, Disk(layer.name, layer.device, _devices(layer))),
    "dm": _dm,
    "loop": _loop,
    "md": _md,
    "monitor": _monitor,
    "mount": _mount,
    "nbd": lambda machine, layer: _put(machine, Nbd(layer.name, layer.device)),
    "partition": lambda machine, layer: _put(
        machine, Partition(layer.name, layer.device, _devices(layer))
    ),
    "scsi": lambda machine, layer: _put(machine, Scsi(layer.name, layer.device)),
    "swap": _swap,
    "zram": lambda machine, layer: _put(machine, Zram(layer.name, layer.device, _devices(layer))),
}


@dataclass
class Opened(Thing):
    """Something that a process has open: a block device, or a file, which keeps its file system
    even when the mount has left the tree."""

    name: str
    what: tuple[str, ...]
    writing: bool = False

    @property
    def key(self) -> str:
        return f"opened:{self.name}"

    def holds(self, machine: Machine) -> Iterable[str]:
        return self.what


class SimHolder:
    """A process of a simulated machine that holds things: as `tests.inside.act.Holder`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.opened: dict[str, Opened] = {}

    def open(self, name: str, path: str, writing: bool = False) -> None:
        """Open a file by its path, or a block device by its number."""
        what: tuple[str, ...] = (path,)
        if path.startswith("/"):
            mount = self._mount(path)
            what = (mount.key, mount.device)
        self.opened[name] = Opened(name, what, writing)
        self.machine.others.append(self.opened[name])
        self._count_writers()

    def write(self, name: str) -> None:
        """Write something to a file, and do not sync it."""
        for mount in self.machine.mounts:
            mount.dirty |= mount.device in self.opened[name].what

    def close(self, name: str) -> None:
        """Close it again."""
        self.machine.remove(self.opened.pop(name))
        self._count_writers()

    def enter(self, path: str) -> None:
        """Make it the working directory."""
        if "cwd" in self.opened:
            self.close("cwd")
        self.open("cwd", path)

    def defer(self, device: str) -> None:
        """Mark a dm device for being removed when it is closed."""
        self.machine.the(Dm, device).deferred = True
        self.machine.closed(device)

    def silence(self, device: str) -> None:
        """Have a disk answer nothing any more."""
        self.machine.devices[device].dead = True

    def _count_writers(self) -> None:
        for mount in self.machine.mounts:
            mount.written = any(
                opened.writing and mount.key in opened.what for opened in self.opened.values()
            )

    def _mount(self, path: str) -> Mount:
        found = self.machine.mount_of(path)
        assert found, path
        return found
