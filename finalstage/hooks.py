"""Programs of others that are run on the way down.

What systemd-shutdown runs when all but root is closed, those in its system-shutdown folder: where
we stand in for it they are ours to run. They lie on the old root and find it as they would else:
read-only, with /usr and /run where these are mounts. They hold it as long as they run:
finalstage/launcher/hooks.c sees to it that none does longer than it may. Source:
systemd-shutdown(8), main() in src/shutdown/shutdown.c.

And the administrator's own, which the tree carries: finalstage/moments.py.
"""

from __future__ import annotations

from finalstage import moments
from finalstage.bounded import bind, together
from finalstage.layers.mount import Mount
from finalstage.lines import Line
from finalstage.stack import covering
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from finalstage.kernel import Kernel
    from finalstage.stack import Stack

FOLDERS = ("/usr/lib/systemd/system-shutdown", "/lib/systemd/system-shutdown")
NEEDED = ("", "/usr", "/run")

LOOK_SECONDS = 2.0
READONLY_SECONDS = 5.0
SHORTEST = 0.5
"""Seconds without which nothing is begun."""

RESERVE = 0.5
"""Seconds for ending what takes too long: END_TIME in finalstage/launcher/hooks.c."""


def are_there(kernel: Kernel, folders: Iterable[str], until: float) -> bool:
    """Whether there may be any in some folders; also where nobody answers who could say."""
    call = kernel.start("look for hooks", bind(_any, kernel, folders))
    kernel.wait((call,), min(LOOK_SECONDS, until - kernel.now()))
    return not call.done or bool(call.error) or bool(call.value)


def _any(kernel: Kernel, folders: Iterable[str]) -> bool:
    for folder in folders:
        try:
            if kernel.listdir(folder):
                return True
        except (FileNotFoundError, NotADirectoryError):
            continue
    return False


def folders(old_root: str) -> list[str]:
    """Return where systemd-shutdown's are, once its root hangs elsewhere."""
    return [old_root + folder for folder in FOLDERS]


def needed(stack: Stack, old_root: str) -> list[Mount]:
    """Return the mounts that they need."""
    places = [old_root + place for place in NEEDED]
    return [layer for layer in stack.layers if isinstance(layer, Mount) and layer.target in places]


def kept(stack: Stack, old_root: str) -> set[str]:
    """Return what they need and all that this stands on, but not the swap area that a tmpfs may
    need."""
    mounts = needed(stack, old_root)
    found = covering(stack, (layer.id for layer in mounts if not layer.is_api))
    return found | {layer.id for layer in mounts}


def run(kernel: Kernel, mounts: list[Mount], verb: str, until: float) -> list[Line]:
    """Make the mounts read-only, and run the programs, all at once; those that have not ended by
    `until` are made to. Return what did not go well."""
    lines = []
    remounts = {
        layer.title: bind(kernel.remount, layer.target, layer.options, True)
        for layer in mounts
        if layer.writable and not layer.is_api and not layer.has_server
    }
    for name, error in together(kernel, remounts, READONLY_SECONDS, until).items():
        if error:
            words = f"{name} is not read-only for what runs at system-shutdown: {error}"
            lines.append(Line(words, bad=True))

    def act(seconds: float) -> list[str]:
        return kernel.run_hooks(verb, seconds)

    return lines + run_bounded(kernel, "system-shutdown", act, until)


def are_at(kernel: Kernel, moment: str, until: float) -> bool:
    """Whether there may be any of the administrator's for a moment."""
    return are_there(kernel, (f"{moments.FOLDER}/{moment}",), until)


def run_at(
    kernel: Kernel, moment: str, verb: str, until: float, each: float, facts: Mapping[str, str]
) -> list[Line]:
    """Run those of a moment, one for `each` seconds at most, and all of them not past `until`.
    `facts` are in their environment. Return what did not go well."""

    def act(seconds: float) -> list[str]:
        return kernel.run_moment(moment, verb, seconds, each, facts)

    return run_bounded(kernel, f"hooks/{moment}", act, until)


def run_bounded(
    kernel: Kernel, place: str, act: Callable[[float], list[str]], until: float
) -> list[Line]:
    """Have the launcher run the programs of a place, by a call that is given how many seconds there
    are until they are made to end. Return what did not go well, and how many there were."""
    seconds = until - kernel.now() - RESERVE
    if seconds < SHORTEST:
        return [Line(f"nothing was run at {place}: no time is left", bad=True)]
    call = kernel.start(place, lambda: act(seconds))
    kernel.wait((call,), seconds + RESERVE)
    if not call.done:
        words = f"no answer in {kernel.now() - call.started:.0f} s"
        return [Line(f"what runs at {place} goes on: {words}", bad=True)]
    if call.error or not isinstance(call.value, list):
        words = describe(call.error) if call.error else "no result"
        return [Line(f"not all was run at {place}: {words}", bad=True)]
    said = [str(words) for words in call.value]
    count = said.pop().removeprefix("ran ") if said and said[-1].startswith("ran ") else ""
    lines = [Line(f"at {place}: {words}", bad=True) for words in said]
    if not count:
        return [*lines, Line(f"not all was run at {place}", bad=True)]
    took = kernel.now() - call.started
    return [*lines, Line(f"ran {count} programs of {place} in {took:.2f} s")]
