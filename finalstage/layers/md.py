"""md arrays: stopped, which writes clean superblocks to the members.

Source: Documentation/admin-guide/md.rst, md_ioctl() and do_md_stop() in drivers/md/md.c.
"""

from __future__ import annotations

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


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then stop it."""
    settle(kernel, layer)
    kernel.stop_array(layer.device)
