"""What would become of each layer at shutdown, as far as a machine that runs can tell.

What is foreseen is what the stage would do: close, flush what does not close, wipe the key of what
stays (seal). What only happens on the way (a disk that dies, a process in the kernel's hands) is
not to be foreseen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from finalstage import layers, mountinfo
from finalstage.cli.plan.facts import Seen
from finalstage.cli.staged.staging import SOURCE, USUAL
from finalstage.kernel import Kernel
from finalstage.layers import swap
from finalstage.layers.dm import Dm
from finalstage.layers.mount import Mount
from finalstage.layers.swap import Swap
from finalstage.stack import Layer, Stack, circles, covering, io_below
from finalstage.world import text

CLOSE, FLUSH, SEAL, REMAIN, KEEP = "close", "flush", "seal", "remain", "keep"
"""What becomes of a layer: it is closed; written out, since it has nothing to close; it stays, and
loses its key; it stays; it is to stay, since finalstage lives in it."""

NOT_STAGED = "root stands on it, and no tree is staged: what runs from root cannot close it"
AFTER_PIVOT = "after the pivot"
CUT = "in a circle, of which the loop device is taken away when all is written out"
PARENTS = ("finit", "openrc-init", "runit")
"""The inits that keep PID 1, and with it root, by what /proc/1/comm calls them."""

WAYS = {
    "bcache": "stop",
    "dm": "remove",
    "loop": "detach",
    "md": "stop",
    "monitor": "end",
    "mount": "unmount",
    "nbd": "disconnect",
    "nfsd": "stop",
    "nvme": "disconnect",
    "rbd": "unmap",
    "scsi": "delete",
    "swap": "switch off",
    "zram": "reset",
}
"""What people call it to close a layer of some kind."""


@dataclass(frozen=True)
class Fate:
    """What becomes of a layer, and why, or what there is to know about it."""

    what: str
    why: str = ""

    @property
    def stays(self) -> bool:
        """Whether it is there in the end though it should not be."""
        return self.what in (SEAL, REMAIN)


def way(layer: Layer, fate: Fate) -> str:
    """Return in a word or two what is done to a layer."""
    words = {FLUSH: "flush", SEAL: "seal", REMAIN: "leave", KEEP: "keep"}
    return words.get(fate.what) or WAYS.get(layer.kind, "close")


def forecast(kernel: Kernel, stack: Stack, seen: Seen, staged: str) -> dict[str, Fate]:
    """Return the fate of each layer by its id. `staged` is where the tree is staged, or ""."""
    stuck = _stuck(kernel, stack, seen)
    rings = {layer.id for ring in circles(stack) for layer in ring}
    below_root = covering(stack, roots(stack))
    kept = _keeps_root(kernel, staged)
    found = {}
    for layer in stack.layers:
        why = stuck.get(layer.id, "")
        if staged and isinstance(layer, Mount) and layer.target == staged:
            fate = Fate(KEEP, "the stage lives in it")
        elif why:
            fate = _staying(layer, why)
        elif not layer.closes:
            fate = Fate(FLUSH)
        elif layer.id in below_root and layer.shown and kept:
            fate = _staying(layer, kept)
        else:
            words = [AFTER_PIVOT] if layer.id in below_root and layer.shown else []
            words += [CUT] if layer.id in rings else []
            fate = Fate(CLOSE, "; ".join((*words, *_hints(layer, seen))))
        found[layer.id] = fate
    return found


def staged_at(kernel: Kernel) -> str:
    """Return where our tree is staged, "" where it is not."""
    try:
        entries = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    except OSError:
        return ""
    sources = [entry.source for entry in entries if entry.target == str(USUAL)]
    return str(USUAL) if SOURCE in sources[-1:] else ""


def _keeps_root(kernel: Kernel, staged: str) -> str:
    """Return why root would not be let go of, "" if it would."""
    if not staged:
        return NOT_STAGED
    try:
        init = text(kernel, "/proc/1/comm")
    except OSError:
        return ""
    if init not in PARENTS:
        return ""
    return f"root stands on it, and {init} stays PID 1, with the stage as its child"


def roots(stack: Stack) -> list[str]:
    """Return the mounts at /, where they are of something that can be closed."""
    found = (layer for layer in stack.layers if isinstance(layer, Mount) and layer.target == "/")
    return [layer.id for layer in found if layer.shown]


def _staying(layer: Layer, why: str) -> Fate:
    if not layer.closes:
        return Fate(FLUSH, why)
    return Fate(SEAL if isinstance(layer, Dm) and layer.has_key else REMAIN, why)


def _stuck(kernel: Kernel, stack: Stack, seen: Seen) -> dict[str, str]:
    """Return why layers will not close, by their ids: those that cannot, and what they write to.
    What a mount that stays is mounted on can go: it is moved out of the way."""
    own = dict(_cannot_close(kernel, stack, seen))
    found: dict[str, str] = {}
    for id in own:
        title = stack.by_id[id].title
        for lower in io_below(stack, (id,)):
            layer = stack.by_id[lower]
            if layer.closes and lower not in own and lower not in found:
                found[lower] = f"held by {title}, which stays"
    return own | found


def _cannot_close(kernel: Kernel, stack: Stack, seen: Seen) -> Iterable[tuple[str, str]]:
    """Yield layers that will not close by themselves, and why."""
    for ring in circles(stack):
        loops = {layer.id for layer in ring if layer.kind == "loop"}
        cut = any(isinstance(each, Dm) and loops.intersection(each.below) for each in ring)
        if not cut:
            titles = " on ".join(layer.title for layer in (*ring, ring[0]))
            yield from ((layer.id, f"in a circle, {titles}") for layer in ring)
    for layer in stack.layers:
        if layer.closes and (why := _why_not(kernel, layer, seen)):
            yield layer.id, why


def _why_not(kernel: Kernel, layer: Layer, seen: Seen) -> str:
    facts = seen.facts[layer.id]
    if layer.kind in layers.NO_WAYS:
        return layers.NO_WAYS[layer.kind]
    if isinstance(layer, Swap) and (why := swap.refusal(kernel, layer)):
        return why
    if isinstance(layer, Mount) and layer.is_api:
        return ""  # it is taken from its place even if somebody uses it
    for daemon in seen.daemons:
        if any(words.startswith(daemon) for words in facts.processes):
            return f"held by {daemon}, a storage daemon, which is not ended"
    if facts.held_unseen:
        return "open, and nobody is seen who holds it"
    return ""


def _hints(layer: Layer, seen: Seen) -> Iterable[str]:
    """Yield what there is to know about closing a layer."""
    if isinstance(layer, Dm) and layer.suspended:
        yield "is suspended, and goes on first"
    if isinstance(layer, Dm) and layer.is_full:
        yield "has no space left: what does not fit into it is lost"
    if isinstance(layer, Dm) and layer.lost:
        yield "has no path left: what is queued for it is lost"
    if isinstance(layer, Mount) and layer.has_server:
        yield "given up if its server does not answer"
    yield from (words for words in seen.facts[layer.id].processes if words.startswith("perhaps "))
