"""md arrays: stopped, which writes clean superblocks to the members.

Source: Documentation/admin-guide/md.rst, md_ioctl() and do_md_stop() in drivers/md/md.c.
"""

from __future__ import annotations

from finalstage.progress import silent
from finalstage.stack import Layer
from finalstage.world import block_id, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "md"


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every array that is assembled. A stopped one keeps its name for a moment, but no members."""
    found = []
    for block in world.blocks:
        if "md" not in block.entries:
            continue
        state = text(kernel, f"{block.path}/md/array_state")
        if state == "clear" and not block.slaves:
            continue
        found.append(
            Layer(
                id=block_id(block.device),
                kind=KIND,
                type=text(kernel, f"{block.path}/md/level") or "md",
                name=block.name,
                below=tuple(block_id(slave) for slave in block.slaves),
                device=block.device,
            )
        )
    return found


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache, and its members' own."""
    kernel.flush(layer.device)


def release(kernel: Kernel, layer: Layer) -> str:
    """Mark the members that do not answer as faulty: the others then do without them.

    Only those: once what is below a dead member was released, writes go on at once, and the
    healthy ones have some in flight. To mark the last working one as faulty, which the kernel
    refuses, fails all writes from then on: MD_BROKEN, raid1_error() in drivers/md/raid1.c.

    Source: Documentation/admin-guide/md.rst, dev-XXX/state.
    """
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
    """Flush it, then stop it; that also where flushing failed, which is raised afterwards."""
    try:
        settle(kernel, layer)
    finally:
        kernel.stop_array(layer.device)
