"""Frees stacks whose I/O will never be answered: what is in flight has to fail.

A suspend waits for I/O in flight, and without a suspend no key can be wiped. So where a device
below does not answer, its I/O is made to fail, from the lowest one up. What waits above then goes
on: a mirror without its dead half, a file system with errors.
"""

from __future__ import annotations

from finalstage import layers, progress
from finalstage.bounded import bind, together
from finalstage.layers.dm import Dm, may_wait
from finalstage.layers.md import Md
from finalstage.layers.mount import Mount
from finalstage.stack import io_below, rounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Kernel
    from finalstage.stack import Layer, Stack

DO_WITHOUT = frozenset(("mirror", "raid", "snapshot-origin"))
"""Targets that go on without some of what they stand on, once that fails."""

RELEASE_SECONDS = 8.0
"""A disk is reset, perhaps twice, and gets a moment to answer again each time."""


def suspects(stack: Stack, hung: set[str]) -> list[Layer]:
    """Return the layers whose silence matters.

    These are the ones that hold a key, those that hang where an array is among what they stand on
    (reboot(2) writes its superblocks, and would hang too), arrays that may wait for their monitor,
    and what all of these stand on.
    """
    by_id = stack.by_id
    keyed = {layer.id for layer in stack.layers if isinstance(layer, Dm) and layer.has_key}
    arrays = {layer.id for layer in stack.layers if is_array(layer)}
    roots = keyed | {id for id in hung if io_below(stack, (id,)) & (keyed | arrays)}
    roots |= {id for id in hung if id in by_id and by_id[id].kind == "mount"}
    roots |= {layer.id for layer in stack.layers if isinstance(layer, Mount) and layer.has_server}
    roots |= {layer.id for layer in stack.layers if isinstance(layer, Md) and layer.may_wait}
    found = io_below(stack, roots)
    return [layer for layer in stack.layers if layer.id in found]


def free(
    kernel: Kernel, stack: Stack, hung: set[str], until: float, say: Callable[[str], None]
) -> bool:
    """Have what is in flight to dead devices fail; return whether anything was done."""
    if kernel.now() >= until:
        return False
    candidates = suspects(stack, hung)
    waited_for = io_below(stack, hung)
    dead = dead_disks(kernel, candidates, waited_for, until)
    silent = [
        layer
        for layer in candidates
        if layer.id in dead
        or (layer.kind == "md" and io_below(stack, (layer.id,)) & dead)
        or waits(layer, waited_for)
    ]
    done = False
    for group in reversed(rounds(stack, silent)):
        words: dict[str, str] = {}
        calls = {layer.id: bind(release, kernel, layer, words) for layer in group}
        errors = together(kernel, calls, RELEASE_SECONDS, until)
        for layer in group:
            if errors[layer.id]:
                say(f"{layer.title} does not answer, and does not let go: {errors[layer.id]}")
            elif words[layer.id]:
                say(f"{layer.title} does not answer: it {words[layer.id]}")
            elif layer.is_disk:
                say(f"{layer.title} does not answer, and the kernel has no way to give it up")
            done = done or bool(words.get(layer.id))
    return done


def is_array(layer: Layer) -> bool:
    """Whether a layer goes on without some of what it stands on, once these fail."""
    return layer.kind == "md" or (isinstance(layer, Dm) and not DO_WITHOUT.isdisjoint(layer.types))


def release(kernel: Kernel, layer: Layer, words: dict[str, str]) -> None:
    """Release a layer and put what was done into `words`."""
    words[layer.id] = layers.release(kernel, layer)


def waits(layer: Layer, waited_for: set[str]) -> bool:
    """Whether a layer itself, rather than a disk below, is what I/O waits for, or may wait for.

    A file system with a server has had its time by now, whether it hangs or not.
    """
    if isinstance(layer, Md):
        return layer.may_wait
    if isinstance(layer, Dm):
        return may_wait(layer, layer.id in waited_for)
    return isinstance(layer, Mount) and layer.has_server


def dead_disks(
    kernel: Kernel, candidates: list[Layer], waited_for: set[str], until: float
) -> set[str]:
    """Return the ids of disks that have requests in flight and answer none of them; none if there
    is no time to see.

    Only those count that somebody has waited for in vain: a healthy one may just be slow. Who calls
    has waited far longer already; this only tells the dead one from its busy neighbours.
    """
    disks = [layer for layer in candidates if layer.is_disk and layer.id in waited_for]
    if kernel.now() + progress.STILL_SECONDS >= until:
        return set()
    silent = progress.silent(kernel, [disk.device for disk in disks])
    return {disk.id for disk in disks if disk.device in silent}
