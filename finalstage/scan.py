"""Kernel to stack: look at everything, let each kind of layer recognise its own."""

from __future__ import annotations

from finalstage import world
from finalstage.layers import KINDS
from finalstage.stack import Layer, Stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel


def scan(kernel: Kernel, own: frozenset[str] = frozenset(), old_root: str = "") -> Stack:
    """Return the stack as it is now, without the mounts at the places in `own`.

    Paths below `old_root` are named as they were called before the pivot.

    Never raises: a kind that cannot be read is missing, and the stack says so in `problems`.
    """
    seen = world.look(kernel)
    seen = seen.but(
        mounts=tuple(mount for mount in seen.mounts if mount.target not in own), old_root=old_root
    )
    layers: list[Layer] = []
    problems = list(seen.problems)
    for kind in KINDS:
        try:
            found = kind.scan(kernel, seen)
        except Exception as error:
            problems.append(f"cannot look for {kind.KIND}: {world.describe(error)}")
            continue
        layers.extend(found)
        seen = seen.but(claimed=seen.claimed.union(layer.id for layer in found))
    return Stack(layers=tuple(layers), problems=tuple(problems))
