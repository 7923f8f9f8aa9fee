"""Nothing waits any more for somebody who will not come: for whoever has suspended a device, for a
path of a multipath, or for more space in a thin pool.

Before anything is written, and once processes are ended: one of them may have been at work on a
device that it had suspended, and would have gone on with it.
"""

from __future__ import annotations

from finalstage import progress
from finalstage.bounded import bind, bounded, together
from finalstage.layers import dm
from finalstage.stack import io_below, rounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Kernel
    from finalstage.stack import Stack

ANSWER_SECONDS = 3.0


def unblock(kernel: Kernel, stack: Stack, until: float, say: Callable[[str], None]) -> bool:
    """Have devices take I/O again that need not make it wait, the lowest first: what a device had
    put off goes on to the one below. Return whether there was any to be asked.

    One with a key stays as it is, ready to lose it, where what is below takes no I/O.
    """
    devices = [layer for layer in stack.layers if isinstance(layer, dm.Dm)]
    if any("thin-pool" in layer.types for layer in devices):
        act = bind(kernel.write, dm.NO_SPACE_TIMEOUT, b"1\n")
        if error := bounded(kernel, "no space", act, ANSWER_SECONDS, until):
            say(f"a thin pool that is full may wait for more space: {error}")
    waiting = [layer for layer in devices if layer.waits_in_vain]
    stuck = _silent(kernel, stack, waiting)
    for group in reversed(rounds(stack, waiting)):
        words: dict[str, str] = {}
        free = [x for x in group if not (x.has_key and io_below(stack, (x.id,)) & stuck)]
        calls = {layer.id: bind(_unblock, kernel, layer, words) for layer in free}
        errors = together(kernel, calls, ANSWER_SECONDS, until)
        for layer in group:
            if layer not in free:
                say(f"{layer.title} stays suspended: what is below does not answer")
            elif errors[layer.id]:
                say(f"{layer.title} takes no I/O, and does not go on: {errors[layer.id]}")
            elif words[layer.id]:
                say(f"{layer.title} {words[layer.id]}")
            if layer.suspended and (layer not in free or errors[layer.id]):
                stuck.add(layer.id)
    return bool(waiting)


def _silent(kernel: Kernel, stack: Stack, layers: list[dm.Dm]) -> set[str]:
    """Return the disks below suspended devices that have I/O in flight and do not answer."""
    below = io_below(stack, (layer.id for layer in layers if layer.suspended))
    disks = {x.device: x.id for x in stack.layers if x.is_disk and x.id in below}
    return {disks[device] for device in progress.silent(kernel, disks)}


def _unblock(kernel: Kernel, layer: dm.Dm, words: dict[str, str]) -> None:
    words[layer.id] = dm.unblock(kernel, layer)
