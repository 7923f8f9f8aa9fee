"""Our own options: ``finalstage.NAME=VALUE`` on the kernel's command line, or ``--NAME=VALUE``."""

from __future__ import annotations

from finalstage.handover.systemd import time_span
from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_BUDGET = 10.0

WIDTH, MOST_WIDTH = 32, 256
"""How many layers are closed at once. They wait for RCU and for disks, and waiting can be shared.
What it brings, by kind of layer, stands in the README: tests/bench/width.py."""

CHOICES = {"scrub": ("auto", "always", "never"), "key-left": ("go-on", "poweroff")}


class Options(Value):
    """What can be set.

    `budget`: seconds from exec to down (``timeout`` on the kernel's command line). `quiet`: say
    only problems. `scrub`: overwrite free memory at the end, ``auto`` where there was encryption.
    `width`: how many layers are closed at once.
    `key_left`: what to do instead of reboot or kexec where a key may remain in memory; RAM that
    loses power forgets. `keyfiles`: files in memory, beside the usual ones, that hold keys.
    """

    budget: float = 90.0
    quiet: bool = False
    scrub: str = "auto"
    width: int = WIDTH
    key_left: str = "go-on"
    keyfiles: tuple[str, ...] = ()


NAMES = ("budget", "timeout", "quiet", "scrub", "width", "key-left", "keyfiles")
ELSEWHERE = ("test", "fault", "watchdog")
"""Options that the guardian and the tests read by themselves."""


def read(options: Options, settings: Iterable[str], problems: list[str]) -> Options:
    """Apply settings, ``name=value`` each; those that make no sense are named and ignored."""
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name in ELSEWHERE:
            continue
        if name == "quiet" and not equals:
            options = options.but(quiet=True)
        elif name in ("budget", "timeout") and time_span(value):
            options = options.but(budget=max(time_span(value), SHORTEST_BUDGET))
        elif name == "width" and _is_width(value):
            options = options.but(width=int(value))
        elif name in CHOICES and value in CHOICES[name]:
            options = options.but(**{name.replace("-", "_"): value})
        elif name == "keyfiles" and value.startswith("/"):
            options = options.but(keyfiles=options.keyfiles + tuple(value.split(":")))
        else:
            problems.append(f"ignoring the option {setting!r}: {_remedy(name)}")
    return options


def _is_width(value: str) -> bool:
    return value.isdecimal() and len(value) < 4 and 1 <= int(value) <= MOST_WIDTH


def _remedy(name: str) -> str:
    if name in CHOICES:
        return f"it may be {', '.join(CHOICES[name])}"
    return {
        "budget": "not a time span",
        "timeout": "not a time span",
        "quiet": "it takes no value",
        "width": f"it may be 1 to {MOST_WIDTH}",
        "keyfiles": "it takes absolute paths, with : between them",
    }.get(name, "there is no such option")
