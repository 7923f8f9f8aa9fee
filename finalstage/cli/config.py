"""/etc/finalstage.toml: read, typed and checked against the table of all options.

Nothing in it is ever a reason not to stage: what is wrong is named, the default holds, and the rest
is used.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finalstage.cli import files
from finalstage.cli.problems import Problem, WrongError
from finalstage.handover import options, settings_on
from finalstage.handover.options import BY_NAME, STAGING, Option, Options, shown
from finalstage.handover.systemd import time_span

PLACE = Path("/etc/finalstage.toml")
COMMAND_LINE = Path("/proc/cmdline")
MOST, MOST_EFFORT = 1 << 16, 1 << 19
"""Bytes of a file that is read at all, and that are parsed to find the lines of its keys."""

TABLES = {option.name.partition(".")[0] for option in options.ALL if "." in option.name}


@dataclass(frozen=True)
class Configuration:
    """What a file sets, by the names of the options, and what is wrong. `options` are all of them:
    the defaults, the file over them, and the kernel's command line over both."""

    place: Path
    values: Mapping[str, object]
    problems: tuple[Problem, ...]
    options: Options
    lines: Mapping[tuple[str, ...], int]
    on_command_line: tuple[str, ...] = ()

    def problem(self, name: str, what: str, remedy: str) -> Problem:
        """Return what is wrong with what is set for an option."""
        return Problem(str(self.place), self.lines.get(tuple(name.split(".")), 0), what, remedy)

    @property
    def text(self) -> str:
        """What the tree carries of the file, for the stage and the guardian."""
        return "".join(
            f"{name}={word(BY_NAME[name], value)}\n"
            for name, value in self.values.items()
            if BY_NAME[name].readers != (STAGING,) and value != ()
        )

    def sets(self, name: str) -> bool:
        """Whether the file or the kernel's command line says something of an option."""
        said = {setting.partition("=")[0] for setting in self.on_command_line}
        return name in self.values or name in said


def read(place: Path) -> Configuration:
    """Read a file, which need not be there, and the kernel's command line."""
    values, lines, problems = _read_file(place)
    found = Options().but(**{BY_NAME[name].field: value for name, value in values.items()})
    settings, wrong = _read_command_line(COMMAND_LINE)
    for setting in settings:
        found = options.apply(found, setting)
    return Configuration(place, values, (*problems, *wrong), found, lines, tuple(settings))


Parsed = tuple[dict[str, object], dict[tuple[str, ...], int], list[Problem]]
"""The values of options by their names, the lines of all keys, and what is wrong."""


def _read_file(place: Path) -> Parsed:
    try:
        return parse(files.read(place, MOST).data, str(place))
    except FileNotFoundError:
        return {}, {}, []
    except WrongError as error:
        return {}, {}, [error.at(place)]


def _read_command_line(place: Path) -> tuple[list[str], list[Problem]]:
    """Return the settings on it that make sense, and what is wrong with the others."""
    settings, problems = [], []
    try:
        line = place.read_text(errors="replace")
    except OSError as error:
        return [], [Problem(str(place), 0, f"cannot be read: {error.strerror}", "mount /proc")]
    for setting in settings_on(line):
        try:
            options.apply(Options(), setting)
            settings.append(setting)
        except ValueError as error:
            problems.append(Problem(str(place), 1, f"finalstage.{setting}", str(error)))
    return settings, problems


def parse(data: bytes, place: str) -> Parsed:
    """Return what a file with this content says, and what is wrong with it."""
    try:
        text = data.decode("utf-8").replace("\r\n", "\n")
        found = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return {}, {}, [Problem(place, line, "not UTF-8: none of it is used", "save it as UTF-8")]
    except (ValueError, RecursionError) as error:
        return {}, {}, [_not_toml(error).at(place, _line_in(error, data))]
    values: dict[str, object] = {}
    lines = lines_of(text)
    problems = []
    for path, given in _keys(found):
        try:
            option = _option_at(path, given)
            values[option.name] = _value(option, given)
        except WrongError as error:
            problems.append(error.at(place, lines.get(path, 0)))
    return values, lines, problems


def _not_toml(error: Exception) -> WrongError:
    words = str(error) if isinstance(error, ValueError) else "nested too deeply"
    words = re.sub(r" \(at .*\)$", "", words)
    return WrongError(f"not TOML, so none of it is used: {words}", "see https://toml.io")


def _line_in(error: Exception, data: bytes) -> int:
    """tomllib says where in words: "(at line 3, column 7)", "(at end of document)"."""
    match = re.search(r"\(at line (\d+), column \d+\)$", str(error))
    if match:
        return int(match[1])
    return len(data.splitlines()) if str(error).endswith("(at end of document)") else 0


def _keys(found: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield the keys, those of our tables with the table before them, and their values."""
    for name, value in found.items():
        if name in TABLES and isinstance(value, dict):
            yield from (((name, key), each) for key, each in value.items())
        else:
            yield (name,), value


def _option_at(path: tuple[str, ...], given: object) -> Option:
    """Return the option that a key sets. Raises WrongError."""
    name = ".".join(path)
    option = BY_NAME.get(name)
    if option is not None and name == option.name:
        return option
    if option is not None:
        raise WrongError(f"there is no key {name}", f"it is called {option.name} here")
    if name in TABLES:
        raise WrongError(f"{name} is a table", f"write [{name}], and its keys below that")
    what = f"table {name!r}" if isinstance(given, dict) else f"key {name!r}"
    raise WrongError(f"there is no {what}", _meant(path))


def _meant(path: tuple[str, ...]) -> str:
    """Return what to do about a key that is none."""
    last = path[-1]
    known = [option.name for option in options.ALL]
    for name in known:
        table, _, key = name.rpartition(".")
        if key == last:
            return f"put it below [{table}]" if table else "put it above all tables"
    near = difflib.get_close_matches(".".join(path), [*known, *TABLES], 1)
    return f"did you mean {near[0]}?" if near else "remove it"


def _value(option: Option, given: object) -> object:
    """Return what a key's value means. Raises WrongError if it must not be that."""
    value = _from_toml(option.kind, given)
    if options.is_allowed(option, value):
        return value
    try:
        shortened = f"{given!r:.60}"
    except ValueError:  # a whole number with more digits than Python shows
        shortened = "so large a number"
    raise WrongError(f"{option.name} must not be {shortened}", remedy(option))


def _from_toml(kind: str, given: object) -> object:
    if kind == options.SPAN and isinstance(given, str):
        return time_span(given)
    if kind == options.SPAN and isinstance(given, int | float) and not isinstance(given, bool):
        return given
    if kind == options.NUMBER:
        return given if isinstance(given, int) and not isinstance(given, bool) else None
    if kind == options.PATHS:
        return tuple(given) if isinstance(given, list) else None
    return None if kind == options.SPAN else given


def remedy(option: Option) -> str:
    """Return what to write for an option, in words."""
    if option.kind == options.SPAN:
        default = shown(getattr(Options(), option.field))
        bounds = f"{shown(option.least)} to {shown(option.most)}"
        return f'write a time such as "{default}", from {bounds}'
    choices = " or ".join(f'"{each}"' for each in option.words)
    return {
        options.SWITCH: "write true or false",
        options.NUMBER: f"write a whole number, {option.least:.0f} to {option.most:.0f}",
        options.CHOICE: f"write {choices}",
        options.PATH: 'write an absolute path such as "/etc/finalstage/hooks"',
        options.CHOICE_OR_PATH: f"write {choices}, or the path of a partition or a file",
        options.PATHS: 'write a list of absolute paths such as ["/run/a"], none of them with a :',
    }[option.kind]


def word(option: Option, value: object) -> str:
    """Return a value as `options.from_word` reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return ":".join(value) if isinstance(value, tuple) else str(value)


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Return on which line of a TOML file each key, and each table, begins.

    tomllib does not tell. But what parses alone is a whole statement, or a blank line: none is cut
    short by an end of line that would not make it invalid.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    statement: list[str] = []
    effort = 0
    for number, line in enumerate(text.split("\n"), 1):
        statement.append(line)
        effort += sum(map(len, statement))
        if effort > MOST_EFFORT:
            return found
        try:
            parsed = tomllib.loads("\n".join(statement))
        except (ValueError, RecursionError):
            continue
        if statement[0].lstrip(" \t").startswith("["):
            table = _header(parsed)
            paths = [table]
        elif table:
            paths = [(*table, key) for key in parsed]
        else:
            paths = [path for path, _ in _keys(parsed)]
        for path in paths:
            for end in range(1, len(path) + 1):
                found.setdefault(path[:end], number - len(statement) + 1)
        statement.clear()
    return found


def _header(parsed: Any) -> tuple[str, ...]:
    """Return the path of a table, of which only the header was parsed."""
    found: tuple[str, ...] = ()
    while isinstance(parsed, dict) and parsed:
        ((name, parsed),) = parsed.items()
        found = (*found, name)
    return found
