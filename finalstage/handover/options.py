"""Our own options: what there is, what each may be, and what the last word about it says.

They stand in the tree's configuration (``NAME=VALUE``, a line each), on the kernel's command line
(``finalstage.NAME=VALUE``) and in the arguments (``--NAME=VALUE``); the later of these counts. What
people write, /etc/finalstage.toml, is read by finalstage/cli/config.py when the tree is staged, and
the pages about it are made from the same table.
"""

from __future__ import annotations

from finalstage.handover.systemd import time_span
from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIGURATION = "/etc/finalstage.conf"
"""In the tree; finalstage/launcher/settings.c reads it too."""

BUDGETS = (10.0, 86400.0)
"""The shortest and the longest: SHORTEST_ATTEMPT in finalstage/launcher/guardian.c."""

WIDTH, MOST_WIDTH = 32, 256
"""How many layers are closed at once. They wait for RCU and for disks, and waiting can be shared.
What it brings, by kind of layer, stands in the README: tests/bench/width.py."""

TREES = ("finalstage", "other")
"""Whose tree of shutdown it is, where an initramfs builder has one too."""

PLACES = ("auto", "efi", "pstore", "none")
"""Where the report is kept, beside a block device."""

SWITCH, SPAN, NUMBER, CHOICE, PATH, PATHS = "switch", "span", "number", "choice", "path", "paths"
CHOICE_OR_PATH = "choice or path"
"""Kinds of value: bool, seconds, int, one word of some, an absolute path, several of them, and a
word or a path."""

STAGE, GUARDIAN, STAGING = "stage", "guardian", "staging"
"""Who reads an option: the stage, the launcher that watches over it, `finalstage stage`."""

ELSEWHERE = ("test", "fault")
"""What only tests say, and read by themselves."""


class Options(Value):
    """What can be set, and what holds where nothing is said. Times are seconds."""

    budget: float = 90.0
    kill_after: float = 5.0
    quiet: bool = False
    scrub: str = "auto"
    firmware_scrub: bool = True
    width: int = WIDTH
    key_left: str = "go-on"
    keyfiles: tuple[str, ...] = ()
    watchdog: bool = True
    stand_in: bool = False
    shutdown_tree: str = "finalstage"
    hooks_directory: str = "/etc/finalstage/hooks"
    hooks_timeout: float = 5.0
    hooks_carry: tuple[str, ...] = ()
    report_place: str = "auto"


class Option(Value):
    """One option: its `name`, what it is called in `Options`, its kind and who reads it.

    A table of the TOML file goes before the name, with a dot. `alias` is another name, `words` are
    what a choice is one of, `least` and `most` bound a number or a time.
    """

    name: str
    field: str
    kind: str
    readers: tuple[str, ...]
    alias: str = ""
    words: tuple[str, ...] = ()
    least: float = 0.0
    most: float = 0.0


ALL = (
    # As an argument it is --budget: systemd has another meaning for --timeout.
    Option("timeout", "budget", SPAN, (STAGE, GUARDIAN), "budget", (), *BUDGETS),
    Option("kill-after", "kill_after", SPAN, (STAGE,), least=0.1, most=600.0),
    Option("quiet", "quiet", SWITCH, (STAGE,)),
    Option("scrub", "scrub", CHOICE, (STAGE,), words=("auto", "always", "never")),
    Option("firmware-scrub", "firmware_scrub", SWITCH, (STAGE,)),
    Option("width", "width", NUMBER, (STAGE,), least=1, most=MOST_WIDTH),
    Option("key-left", "key_left", CHOICE, (STAGE,), words=("go-on", "poweroff")),
    Option("keyfiles", "keyfiles", PATHS, (STAGE,)),
    Option("watchdog", "watchdog", SWITCH, (GUARDIAN,)),
    Option("systemd.stand-in", "stand_in", SWITCH, (STAGING,)),
    Option("systemd.shutdown-tree", "shutdown_tree", CHOICE, (STAGING,), words=TREES),
    Option("hooks.directory", "hooks_directory", PATH, (STAGING,)),
    Option("hooks.timeout", "hooks_timeout", SPAN, (STAGE,), least=0.1, most=3600.0),
    Option("hooks.carry", "hooks_carry", PATHS, (STAGING,)),
    Option("report.place", "report_place", CHOICE_OR_PATH, (STAGE,), words=PLACES),
)
BY_NAME = {name: option for option in ALL for name in (option.name, option.alias) if name}


def read(
    options: Options, settings: Iterable[str], problems: list[str], place: str = ""
) -> Options:
    """Apply settings, ``NAME=VALUE`` each; those that make no sense are named and ignored."""
    for setting in settings:
        try:
            options = apply(options, setting)
        except ValueError as error:
            problems.append(f"ignoring the option {setting!r}{place}: {error}")
    return options


def apply(options: Options, setting: str) -> Options:
    """Apply one. ValueError if it makes no sense, with what would."""
    name, equals, word = setting.partition("=")
    option = BY_NAME.get(name)
    if name in ELSEWHERE:
        return options
    if option is None:
        raise ValueError("there is no such option")
    value = from_word(option, word if equals else None)
    if option.kind == PATHS:  # these add up
        value = getattr(options, option.field) + value
    return options.but(**{option.field: value})  # type: ignore[no-any-return]


def from_word(option: Option, word: str | None) -> object:
    """Return the value that a word stands for, None for a name alone. ValueError if for none."""
    value = _meant(option.kind, word)
    if not is_allowed(option, value):
        raise ValueError(allowed(option))
    return value


def _meant(kind: str, word: str | None) -> object:
    if kind == SWITCH:
        return {None: True, "on": True, "off": False}.get(word)
    if kind == SPAN:
        return time_span(word or "")
    if kind == NUMBER:
        return int(word) if word and word.isdecimal() and len(word) < 10 else None
    return tuple((word or "").split(":")) if kind == PATHS else word


def is_allowed(option: Option, value: object) -> bool:
    """Whether an option may have a value."""
    if option.kind == SWITCH:
        return isinstance(value, bool)
    if option.kind in (SPAN, NUMBER):
        return isinstance(value, int | float) and option.least <= value <= option.most
    if option.kind == CHOICE:
        return value in option.words
    if option.kind == PATHS:
        return isinstance(value, tuple) and all(map(is_path, value))
    if option.kind == CHOICE_OR_PATH and value in option.words:
        return True
    return is_path(value)


def is_path(value: object) -> bool:
    """Whether this is an absolute path that a line, and a list with colons, can hold."""
    return isinstance(value, str) and value[:1] == "/" and value.isprintable() and ":" not in value


def allowed(option: Option) -> str:
    """Return what an option may be, in words."""
    if option.kind == SPAN:
        return f"it may be a time span, {shown(option.least)} to {shown(option.most)}"
    return {
        SWITCH: "it may be on or off",
        NUMBER: f"it may be {option.least:.0f} to {option.most:.0f}",
        CHOICE: f"it may be {', '.join(option.words)}",
        PATH: "it takes an absolute path",
        CHOICE_OR_PATH: f"it may be {', '.join(option.words)}, or an absolute path",
        PATHS: "it takes absolute paths, with : between them",
    }[option.kind]


def shown(seconds: float) -> str:
    """Return a time as people write it."""
    for unit, name in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds * 1000:.0f}ms"
