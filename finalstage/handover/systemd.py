"""The arguments that systemd gives to systemd-shutdown, which hands them on to us.

Source: src/shutdown/shutdown.c, parse_argv(); src/core/main.c, become_shutdown().
"""

from __future__ import annotations

from finalstage.value import Value

WITH_VALUE = frozenset(("--log-level", "--log-target", "--timeout", "--exit-code"))
"""Options whose value may stand in an argument of its own."""

IGNORED = frozenset(("--log-color", "--log-location", "--log-time", "--exit-code"))

QUIET_LEVELS = frozenset(("0", "1", "2", "3", "4", "emerg", "alert", "crit", "err", "warning"))
"""Log levels at which only problems are said: <syslog.h>."""

UNITS = {
    "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "": 1.0, "s": 1.0, "sec": 1.0,
    "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0,
}  # fmt: skip


class Words(Value):
    """The arguments, sorted. `timeout` is how long processes may take to end, in seconds, 0 where
    none was given. `settings` are options of our own, without the dashes."""

    verb: str = ""
    timeout: float = 0.0
    quiet: bool = False
    settings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def parse(arguments: list[str]) -> Words:
    """Sort the arguments; what is not understood is named in `problems` and ignored."""
    verb, timeout, quiet = "", 0.0, False
    settings: list[str] = []
    problems: list[str] = []
    todo = list(arguments)
    while todo:
        word = todo.pop(0)
        if not word.startswith("-"):
            if verb:
                problems.append(f"ignoring the argument {word!r} after {verb!r}")
            verb = verb or word
            continue
        name, equals, value = word.partition("=")
        if not equals and name in WITH_VALUE and todo:
            value = todo.pop(0)
        if name == "--timeout":
            timeout = time_span(value)
            if not timeout:
                problems.append(f"ignoring --timeout={value}: not a time span")
        elif name == "--log-level":
            quiet = quiet or value.partition(",")[0] in QUIET_LEVELS  # more are for one target
        elif name == "--log-target":
            quiet = quiet or value == "null"
        elif name not in IGNORED:
            settings.append(word.lstrip("-"))
    return Words(
        verb=verb,
        timeout=timeout,
        quiet=quiet,
        settings=tuple(settings),
        problems=tuple(problems),
    )


def time_span(text: str) -> float:
    """Return seconds of a systemd time span (``90s``, ``1min 30s``, ``90000000us``).

    0 if it is none, is zero or endless: every stage has an end.
    """
    total = 0.0
    number = unit = ""
    for character in text.strip() + "\0":
        if character.isascii() and (character.isdigit() or character == "."):
            if unit:
                total += span(number, unit)
                number = unit = ""
            number += character
        elif character.isalpha():
            unit += character
        elif character == "\0":
            total += span(number, unit)
        elif not character.isspace():
            return 0.0
    return total if 0.0 < total < float("inf") else 0.0


def span(number: str, unit: str) -> float:
    """Return seconds of one number with its unit; not-a-number if it is none."""
    try:
        return float(number) * UNITS[unit]
    except (ValueError, KeyError):
        return float("nan")
