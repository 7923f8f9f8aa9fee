"""Our own options: ``finalstage.NAME=VALUE`` on the kernel's command line, or ``--NAME=VALUE``."""

from __future__ import annotations

from finalstage.handover.systemd import time_span
from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_BUDGET = 10.0

CHOICES = {"scrub": ("auto", "always", "never"), "key-left": ("go-on", "poweroff")}


class Options(Value):
    """What can be set.

    `budget`: seconds from exec to down (``timeout`` on the kernel's command line). `quiet`: say
    only problems. `scrub`: overwrite free memory at the end, ``auto`` where there was encryption.
    `key_left`: what to do instead of reboot or kexec where a key may remain in memory; RAM that
    loses power forgets. `keyfiles`: files in memory, beside the usual ones, that hold keys.
    """

    budget: float = 90.0
    quiet: bool = False
    scrub: str = "auto"
    key_left: str = "go-on"
    keyfiles: tuple[str, ...] = ()


NAMES = ("budget", "timeout", "quiet", "scrub", "key-left", "keyfiles")
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
        elif name in CHOICES and value in CHOICES[name]:
            options = options.but(**{name.replace("-", "_"): value})
        elif name == "keyfiles" and value.startswith("/"):
            options = options.but(keyfiles=options.keyfiles + tuple(value.split(":")))
        else:
            problems.append(f"ignoring the option {setting!r}: {_remedy(name)}")
    return options


def _remedy(name: str) -> str:
    if name in CHOICES:
        return f"it may be {', '.join(CHOICES[name])}"
    return {
        "budget": "not a time span",
        "timeout": "not a time span",
        "quiet": "it takes no value",
        "keyfiles": "it takes absolute paths, with : between them",
    }.get(name, "there is no such option")
