"""Monitors of arrays with external metadata: ended once the arrays are gone, since each needs one
to become clean; and before what the program lies on.

Where it lies on the very array that it keeps, as the root file system may, that is a circle. It is
broken where that harms least: the file system turns read-only, the array is told to be clean, and
SIGTERM has the monitor end as soon as it has noted that. From then on nobody may write any more.
"""

from __future__ import annotations

from errno import EBUSY, ESRCH

from finalstage.monitors import become_clean, container_of, is_there, watches
from finalstage.processes import SIGKILL, SIGTERM, all_processes, read_process
from finalstage.stack import Layer
from finalstage.world import block_id, mount_id, text_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "monitor"

END_SECONDS, TICK = 3.0, 0.01
"""How long one may take to end, and how often to look. It writes to each of its disks before."""


class Monitor(Layer):
    """The monitor of a container, process `pid`, whose program lies on the mounts `holds`, target
    and options.

    `arrays` are the kernel names of its arrays, `above` these and all devices that stand on them,
    the topmost first. `shared` means that others than those mounts may write to them.
    """

    pid: int = 0
    holds: tuple[tuple[str, str], ...] = ()
    arrays: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    shared: bool = False


def monitor_id(container: str) -> str:
    """Return the id of the monitor of a container, by the container's ``major:minor``."""
    return f"monitor:{container}"


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every process that watches an array of a container, one a container."""
    members: dict[str, list[str]] = {}
    for block in world.blocks:
        if "md" in block.entries:
            version = text_if_there(kernel, f"{block.path}/md/metadata_version")
            container = container_of(version)
            if container:
                members.setdefault(container, []).append(block.name)
    devices = world.by_name
    found: list[Layer] = []
    for process in all_processes(kernel) if members else ():
        for container, arrays in members.items():
            if container in devices and watches(kernel, process.pid, tuple(arrays)):
                found.append(_monitor(kernel, world, process.pid, devices[container], arrays))
    return found


def _monitor(kernel: Kernel, world: World, pid: int, container: str, arrays: list[str]) -> Monitor:
    device = kernel.stat(f"/proc/{pid}/exe").device
    mounts = [mount for mount in world.mounts if mount.device == device]
    above = _standing_on(world, [block.device for block in world.blocks if block.name in arrays])
    others = {mount.device for mount in world.mounts} & set(above) - {device}
    return Monitor(
        id=monitor_id(container),
        kind=KIND,
        type="monitor",
        name=read_process(kernel, pid).title,
        below=(block_id(container), *(mount_id(mount.id) for mount in mounts)),
        pid=pid,
        holds=tuple((mount.target, mount.options) for mount in mounts),
        arrays=tuple(arrays),
        above=tuple(reversed(above)),
        shared=bool(others or world.swaps),
    )


def _standing_on(world: World, lower: list[str]) -> list[str]:
    """Return some block devices, and behind them all that stand on them."""
    found = list(lower)
    for device in found:  # grows while it is walked
        found += [
            block.device
            for block in world.blocks
            if device in (*block.slaves, block.parent) and block.device not in found
        ]
    return found


def settle(kernel: Kernel, layer: Layer) -> None:
    """Nothing: it keeps what it has in mind on the disks."""


def close(kernel: Kernel, layer: Layer) -> None:
    """End it. If one of its arrays is still there, its program lies on that; then EBUSY if there is
    anything else that may still write to it."""
    assert isinstance(layer, Monitor)
    remaining = [array for array in layer.arrays if is_there(kernel, array)]
    if remaining:
        if layer.shared:
            raise OSError(EBUSY, "busy", layer.name)
        for target, options in layer.holds:
            kernel.remount(target, options, readonly=True)
        for device in layer.above:
            kernel.flush(device)
        for array in remaining:
            become_clean(kernel, array)
    if _ends(kernel, layer.pid, SIGTERM):
        return
    if remaining or not _ends(kernel, layer.pid, SIGKILL):
        raise OSError(EBUSY, "busy", layer.name)


def _ends(kernel: Kernel, pid: int, signal: int) -> bool:
    """Send a signal, and return whether the process has ended then."""
    try:
        kernel.kill(pid, signal)
    except OSError as error:
        if error.errno != ESRCH:
            raise
    until = kernel.now() + END_SECONDS
    while is_running(kernel, pid):
        if kernel.now() >= until:
            return False
        kernel.sleep(TICK)
    return True


def is_running(kernel: Kernel, pid: int) -> bool:
    """Whether a process has not ended yet."""
    try:
        return read_process(kernel, pid).state not in ("Z", "X")
    except OSError:
        return False
