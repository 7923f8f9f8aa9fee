"""Kernel to stack: look at everything, let each kind of layer recognise its own."""

from __future__ import annotations

from finalstage import world
from finalstage.layers import KINDS
from finalstage.stack import Layer, Stack, lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from finalstage.kernel import Kernel
    from finalstage.layers import Kind


def scan(
    kernel: Kernel,
    own: frozenset[str] = frozenset(),
    old_root: str = "",
    before: tuple[Layer, ...] = (),
) -> Stack:
    """Return the stack as it is now, without the mounts at the places in `own`.

    Paths below `old_root` are named as they were called before the pivot. `before` are the layers
    of the last scan: what did not answer then is not asked a second time before it has.

    Never raises. What cannot be read is named in the stack's `problems`: a device in which its
    kind cannot look is a disk there, on what it stands on; a kind that cannot look at all is
    missing.
    """
    seen = world.look(kernel)
    seen = seen.but(
        mounts=tuple(mount for mount in seen.mounts if mount.target not in own),
        old_root=old_root,
        before=before,
    )
    layers: list[Layer] = []
    problems = list(seen.problems)
    for kind in KINDS:
        found = _recognise(kernel, seen, kind, problems)
        layers.extend(found)
        if found:
            seen = seen.but(claimed=seen.claimed.union(layer.id for layer in found))
    problems += [layer.problem for layer in layers if layer.problem]
    return Stack(layers=lean(layers), problems=tuple(problems), blind=seen.blind)


def _recognise(
    kernel: Kernel, seen: world.World, kind: Kind, problems: list[str]
) -> Sequence[Layer]:
    """Return the layers of a kind. If it cannot look, find out in which devices, and do without."""
    try:
        return kind.scan(kernel, seen)
    except Exception:
        readable, reasons = [], []
    for block in seen.blocks:
        try:
            kind.scan(kernel, seen.but(blocks=(block,)))
            readable.append(block)
        except Exception as error:
            reasons.append(f"cannot look for {kind.KIND} in {block.name}: {world.describe(error)}")
    try:
        found = kind.scan(kernel, seen.but(blocks=tuple(readable)))
    except Exception as error:
        problems.append(f"cannot look for {kind.KIND}: {world.describe(error)}")
        return ()
    problems += reasons
    return found
