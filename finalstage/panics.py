"""No file system may panic the kernel any more: a panic leaves every key in memory.

What the kernel itself was told to panic at, the launcher has already forbidden: forbid_panics() in
finalstage/launcher/children.c.
"""

from __future__ import annotations

from finalstage.bounded import bind, together
from finalstage.layers import mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.stack import Stack

ANSWER_SECONDS = 1.0


def defuse(kernel: Kernel, stack: Stack, until: float) -> list[str]:
    """Let no file system panic at an I/O error, whoever asked it to; return what failed."""
    layers = [layer for layer in stack.layers if isinstance(layer, mount.Mount) and layer.panics]
    calls = {layer.title: bind(mount.defuse, kernel, layer) for layer in layers}
    found = together(kernel, calls, ANSWER_SECONDS, until)
    return [f"{name} may panic at an I/O error: {error}" for name, error in found.items() if error]
