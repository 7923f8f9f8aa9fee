"""md arrays: stopped, which writes clean superblocks to the members.

Source: Documentation/admin-guide/md.rst, md_ioctl() and do_md_stop() in drivers/md/md.c.
"""

from __future__ import annotations

from errno import EBUSY, EIO

from finalstage.bounded import bind
from finalstage.layers.monitor import monitor_id
from finalstage.monitors import (
    DIRTY,
    EXTERNAL,
    PENDING,
    become_clean,
    container_of,
    is_kept,
    is_there,
    monitored,
    state_file,
)
from finalstage.mountinfo import unescape
from finalstage.progress import STILL_SECONDS, silent, transferred
from finalstage.stack import Layer
from finalstage.world import block_id, holding_mount, text, text_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import Block, World

KIND = "md"
CONTAINER = "container"

MONITOR_SECONDS, TICK = 3.0, 0.01
"""How long a monitor may take to note that an array is clean, and how often to look."""

LOOK_SECONDS = 0.1
"""How often to look whether an array without its monitor waits for that."""


class Md(Layer):
    """An array; `container` is the kernel name of that which it is a member of, if it is."""

    container: str = ""
    state: str = ""

    @property
    def is_container(self) -> bool:
        """Whether it is only the members that arrays share."""
        return self.type == CONTAINER

    @property
    def may_wait(self) -> bool:
        """Whether writes to it may wait for a monitor, to note that it is not clean any more."""
        return bool(self.container)


def scan(kernel: Kernel, world: World) -> list[Md]:
    """Every array that is assembled. A stopped one keeps its name for a moment, but no members; its
    state can be gone when we ask for it. To open it then would make a new one, which fails all."""
    found = []
    devices = world.by_name
    for block in world.blocks:
        if "md" not in block.entries:
            continue
        state = text_if_there(kernel, f"{block.path}/md/array_state")
        if state in ("", "clear") and not block.slaves:
            continue
        version = text_if_there(kernel, f"{block.path}/md/metadata_version")
        external, container = version.startswith(EXTERNAL), container_of(version)
        below = [block_id(slave) for slave in block.slaves]
        leans_on: tuple[str, ...] = ()
        if container in devices:
            below.append(block_id(devices[container]))
            leans_on = (monitor_id(devices[container]),)
        found.append(
            Md(
                id=block_id(block.device),
                kind=KIND,
                type=text_if_there(kernel, f"{block.path}/md/level")
                or (CONTAINER if external else "md"),
                name=block.name,
                below=(*below, *_bitmap_mount(kernel, world, block)),
                leans_on=leans_on,
                places=leans_on,  # nothing is written to a monitor
                device=block.device,
                container=container,
                state=state,
            )
        )
    return found


def _bitmap_mount(kernel: Kernel, world: World, block: Block) -> tuple[str, ...]:
    """Return the mount of the file that an array's bitmap is in, and which it holds open."""
    if text_if_there(kernel, f"{block.path}/md/bitmap/location") != "file":
        return ()  # or its level has none
    array = ""
    for line in text_if_there(kernel, "/proc/mdstat").split("\n"):
        if line[:1].strip():
            array = line.partition(" ")[0]
        path = line.partition(", file: ")[2]
        if path and array == block.name:
            mount = holding_mount(world, unescape(path))
            return (mount,) if mount else ()
    return ()


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache, and its members' own. If it has a monitor, have that know.

    One that does not run has nothing to write, and fails whatever is asked of it.
    """
    assert isinstance(layer, Md)
    if layer.state == "inactive":
        return
    if not layer.container:
        kernel.flush(layer.device)
    elif is_kept(kernel, layer.name):
        kernel.flush(layer.device)
        become_clean(kernel, layer.name)
    else:
        _flush_alone(kernel, layer)


def _flush_alone(kernel: Kernel, layer: Md) -> None:
    """Write out the page cache of an array whose monitor has gone, and would have to note that."""
    call = kernel.start(f"flush {layer.title}", bind(kernel.flush, layer.device))
    done, moved = 0, kernel.now()
    while not kernel.wait((call,), LOOK_SECONDS):
        _let_write(kernel, layer)
        before, done = done, transferred(kernel, layer.device)
        if done != before:
            moved = kernel.now()
        elif kernel.now() - moved >= STILL_SECONDS:
            kernel.flush(layer.device)  # it waits for something else, like anybody's
            return
    if call.error:
        raise call.error


def _let_write(kernel: Kernel, layer: Layer) -> bool:
    """Have a write that waits for an array's monitor go on without it; return whether one did."""
    waits = text(kernel, state_file(layer.name)) == PENDING
    if waits:
        kernel.write(state_file(layer.name), b"active")
    return waits


def release(kernel: Kernel, layer: Layer) -> str:
    """Mark the members that do not answer as faulty: the others then do without them.

    Only those: once what is below a dead member was released, writes go on at once, and the
    healthy ones have some in flight. To mark the last working one as faulty, which the kernel
    refuses, fails all writes from then on: MD_BROKEN, raid1_error() in drivers/md/raid1.c.

    A monitor that has gone, or hangs, will not let writes go on, so we do.

    Source: Documentation/admin-guide/md.rst, dev-XXX/state.
    """
    assert isinstance(layer, Md)
    if layer.may_wait and _let_write(kernel, layer):
        return "goes on without its monitor"
    path = f"/sys/dev/block/{layer.device}"
    devices, working = {}, set()
    for name in kernel.listdir(f"{path}/slaves"):
        try:
            state = text(kernel, f"{path}/md/dev-{name}/state").split(",")
            device = text(kernel, f"{path}/slaves/{name}/dev")
        except OSError:
            continue  # it has gone with its disk, and the array knows
        if "faulty" not in state:
            devices[name] = device
        if "in_sync" in state:
            working.add(device)
    dead = silent(kernel, devices.values())
    if not working - dead:
        return ""
    faulty = [name for name, device in devices.items() if device in dead]
    for name in faulty:
        kernel.write(f"{path}/md/dev-{name}/state", b"faulty")
    return f"goes on without {', '.join(faulty)}" if faulty else ""


def pass_by(kernel: Kernel, layer: Layer) -> None:
    """Have this call hold an array that waits for a dead member for ever, and never return.

    On the way down, the kernel waits for each array that nobody holds: md_notify_reboot() in
    drivers/md/md.c. Where nothing is in flight, this does nothing: suspend_lo_store().
    """
    kernel.write(f"/sys/dev/block/{layer.device}/md/suspend_lo", b"0")


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then stop it; that also where flushing failed, which is raised afterwards. EIO if
    nobody was there to note that it is clean.

    EBUSY for a container with arrays, which the kernel itself would not refuse to stop.
    """
    assert isinstance(layer, Md)
    if layer.is_container and any(
        is_there(kernel, array) for array in monitored(kernel, layer.name)
    ):
        raise OSError(EBUSY, "busy", layer.name)
    try:
        settle(kernel, layer)
    finally:
        if layer.container:
            _stop_member(kernel, layer)
        else:
            kernel.stop_array(layer.device)


def _stop_member(kernel: Kernel, layer: Md) -> None:
    """Make an array inactive, and have its monitor note that and take it apart.

    To stop it outright would not tell the monitor how far a resync got: Manage_stop() in Manage.c
    of mdadm. Levels without redundancy have no monitor, and need none.
    """
    dirty = text(kernel, state_file(layer.name)) in DIRTY
    kernel.write(state_file(layer.name), b"inactive")
    until = kernel.now() + MONITOR_SECONDS
    while is_kept(kernel, layer.name) and kernel.now() < until:
        if not is_there(kernel, layer.name):
            return
        kernel.sleep(TICK)
    if not is_there(kernel, layer.name):
        return
    kernel.stop_array(layer.device)
    if dirty and layer.type not in ("raid0", "linear"):
        raise OSError(EIO, "nobody noted that it is clean", layer.name)
