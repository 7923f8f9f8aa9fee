"""md arrays: stopped, which writes clean superblocks to the members.

Source: Documentation/admin-guide/md.rst, md_ioctl() and do_md_stop() in drivers/md/md.c.
"""

from __future__ import annotations

from finalstage.progress import in_flight
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

    Source: Documentation/admin-guide/md.rst, dev-XXX/state. The last member of a mirror cannot
    be faulty; the kernel refuses it.
    """
    path = f"/sys/dev/block/{layer.device}"
    faulty = []
    for name in kernel.listdir(f"{path}/slaves"):
        member = text(kernel, f"{path}/slaves/{name}/dev")
        if in_flight(kernel, member):
            kernel.write(f"{path}/md/dev-{name}/state", b"faulty")
            faulty.append(name)
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
