"""Recorded machines: what /proc, /sys and the device mapper said on them, and a kernel that says it
again.

A recording is a text file, NAME.txt here: a machine as its users leave it, and what is different
once the old root hangs below the tree. Below the path of a folder in brackets stand its files, with
what is in them or which error they gave, its links, and its folders, behind a dot. Answers about
what is no file of /proc or /sys stand as tuples. `python -m tests.vm.record NAME` makes it again.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from errno import EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, ENXIO
from pathlib import Path
from typing import Any

from finalstage.drawing import draw
from finalstage.kernel import DmStatus, Stat, Target
from finalstage.scan import scan
from finalstage.stack import Stack
from finalstage.stage import OLD_ROOT, OWN_MOUNTS
from tests.instant import Instant

HERE = Path(__file__).resolve().parent
MOST_LINKS = 40
"""Beyond which a path leads nowhere: MAXSYMLINKS in <linux/namei.h>."""


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


FOLDER = None
Entry = bytes | Link | int | None
"""What is at a path: a file with its content, a link, the errno that reading it gave, a folder."""


@dataclass(frozen=True)
class Recording:
    """A machine at a moment: entries by their paths, and answers by what they are about."""

    entries: Mapping[str, Entry]
    answers: Mapping[tuple[str, str], Any] = field(default_factory=dict)

    def but(self, changes: Mapping[str, Entry], without: Iterable[str] = ()) -> Recording:
        """The same with some entries changed, and some gone with all that is below."""
        gone = tuple(f"{path}/" for path in without)
        kept = {
            path: entry
            for path, entry in self.entries.items()
            if not gone or not f"{path}/".startswith(gone)
        }
        return replace(self, entries={**kept, **changes})


class RecordedKernel(Instant):
    """The part of a `Kernel` that scan uses. What was not recorded is not there."""

    pid = 1

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.folders: dict[str, list[str]] = {}
        for path in recording.entries:
            while path != "/":
                path, _, name = path.rpartition("/")
                path = path or "/"
                below = self.folders.setdefault(path, [])
                if name in below:
                    break
                below.append(name)

    def read(self, path: str) -> bytes:
        found = self._at(self.own_path(path), path)
        if isinstance(found, bytes):
            return found
        raise _error(found if isinstance(found, int) else EISDIR, path)

    def listdir(self, path: str) -> list[str]:
        own = self.own_path(path)
        if self._at(own, path) is not FOLDER:
            raise _error(ENOTDIR, path)
        return list(self.folders.get(own, ()))

    def readlink(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        found = self._at(f"{self.own_path(folder)}/{name}", path)
        if isinstance(found, Link):
            return found.target
        raise _error(EINVAL, path)

    def stat(self, path: str) -> Stat:
        return Stat(*self._answer("stat", path, ENOENT))

    def dm_status(self, device: str) -> DmStatus:
        return self._dm("dm_status", device)

    def dm_info(self, device: str) -> DmStatus:
        return self._dm("dm_info", device)

    def _dm(self, question: str, device: str) -> DmStatus:
        *header, table = self._answer(question, device, ENXIO)
        targets = tuple(Target(*target) for target in table)
        return DmStatus(*header).but(targets=targets)  # type: ignore[no-any-return]

    def _answer(self, question: str, thing: str, otherwise: int) -> Any:
        found = self.recording.answers.get((question, thing), otherwise)
        if isinstance(found, int):
            raise _error(found, thing)
        return found

    def _at(self, own: str, path: str) -> Entry:
        """Return what is at a path that leads through no link. `path` is for the error."""
        if own in self.recording.entries:
            return self.recording.entries[own]
        if own in self.folders:
            return FOLDER
        raise _error(ENOENT, path)

    def own_path(self, path: str) -> str:
        """Return the path, through no link, of what is at a path."""
        own, waiting, links = "", path.strip("/").split("/"), 0
        while waiting:
            own = os.path.normpath(f"{own}/{waiting.pop(0)}")
            found = self.recording.entries.get(own)
            if isinstance(found, Link):
                links += 1
                if links > MOST_LINKS:
                    raise _error(ELOOP, path)
                waiting = found.target.strip("/").split("/") + waiting
                own = "" if found.target.startswith("/") else os.path.dirname(own)
            elif found is not FOLDER and waiting:
                raise _error(ENOTDIR, path)
        return own


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


def heard(said: Iterable[tuple[Any, ...]]) -> Recording:
    """Return what `tests.inside.record` has told."""
    entries: dict[str, Entry] = {}
    answers: dict[tuple[str, str], Any] = {}
    for line in said:
        match line:
            case "folder", path:
                entries[path] = FOLDER
            case "link", path, target:
                entries[path] = Link(target)
            case (("file" | "error"), path, content):
                entries[path] = content
            case ("stat" | "dm_status" | "dm_info") as question, thing, answer:
                answers[question, thing] = answer
    return Recording(entries, answers)


# -- as text -------------------------------------------------------------------------------------

ANSWERS = "answers"
PIVOTED = "== pivoted =="
GONE = "-"


def write(before: Recording, pivoted: Recording) -> str:
    """Return two recordings of a machine as text, the second as what is different."""
    changed = {
        path: _line(path, entry)
        for path, entry in pivoted.entries.items()
        if path not in before.entries or before.entries[path] != entry
    }
    gone = {path: f"{_name(path)} {GONE}" for path in before.entries if path not in pivoted.entries}
    whole = {path: _line(path, entry) for path, entry in before.entries.items()}
    answers = {key: value for key, value in pivoted.answers.items()
               if before.answers.get(key) != value}  # fmt: skip
    return f"{_sections(whole, before.answers)}\n{PIVOTED}\n{_sections(changed | gone, answers)}"


def _sections(lines: Mapping[str, str], answers: Mapping[tuple[str, str], Any]) -> str:
    folders: dict[str, list[str]] = {}
    for path, line in sorted(lines.items()):
        folders.setdefault(path.rpartition("/")[0] or "/", []).append(line)
    if answers:
        folders[ANSWERS] = [f"{name!r} = {answer!r}" for name, answer in sorted(answers.items())]
    return "\n".join("\n".join((f"[{folder}]", *rest, "")) for folder, rest in folders.items())


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _line(path: str, entry: Entry) -> str:
    name = _name(path)
    if entry is FOLDER:
        return f".{name}"
    if isinstance(entry, Link):
        return f"{name} -> {entry.target}"
    if isinstance(entry, int):
        return f"{name} ! {entry}"
    text = entry.decode("utf-8", "replace")
    plain = all(character.isprintable() or character in "\t\n" for character in text)
    if not plain or not text.endswith("\n") or text.encode() != entry:
        return f"{name} : {entry!r}"
    first, *more = text.removesuffix("\n").split("\n")
    if more:
        return "\n".join((name, *(f"\t{line}" for line in (first, *more))))
    return f"{name} = {first}"


def read(text: str) -> tuple[Recording, Recording]:
    """Return the two recordings that `write` has written."""
    before = _read(text.partition(f"{PIVOTED}\n")[0], Recording({}))
    return before, _read(text.partition(f"{PIVOTED}\n")[2], before)


def _read(text: str, start: Recording) -> Recording:
    entries, answers = dict(start.entries), dict(start.answers)
    lines: dict[str, list[str]] = {}
    folder = path = ""
    for line in text.split("\n"):
        if line.startswith("["):
            folder = line[1:-1]
        elif folder == ANSWERS and line:
            key, _, answer = line.partition(" = ")
            answers[ast.literal_eval(key)] = ast.literal_eval(answer)
        elif line.startswith("\t"):
            lines[path].append(line[1:])
        elif line:
            path = f"{folder.rstrip('/')}/{line.removeprefix('.').split(' ')[0]}"
            lines[path] = [line]
    for path, (line, *more) in lines.items():
        if line.split(" ")[1:] == [GONE]:
            del entries[path]
        else:
            entries[path] = _entry(line, more)
    return Recording(entries, answers)


def _entry(line: str, more: list[str]) -> Entry:
    if line.startswith("."):
        return FOLDER
    if more:
        return "".join(f"{each}\n" for each in more).encode()
    _, mark, value = line.split(" ", 2)
    kinds: dict[str, Callable[[str], Entry]] = {
        "->": Link,
        "!": int,
        ":": ast.literal_eval,
        "=": lambda value: f"{value}\n".encode(),
    }
    return kinds[mark](value)


def load(name: str) -> tuple[Recording, Recording]:
    """Return the two recordings of a machine by its name."""
    return read((HERE / f"{name}.txt").read_text(encoding="utf-8"))


def names() -> list[str]:
    """Return the names of all machines."""
    return sorted(path.stem for path in HERE.glob("*.txt"))


# -- what scan makes of them ---------------------------------------------------------------------


def look(recording: Recording) -> Stack:
    """Scan a machine as its users leave it."""
    return scan(RecordedKernel(recording))  # type: ignore[arg-type]


def look_pivoted(recording: Recording) -> Stack:
    """Scan it as the stage does."""
    return scan(RecordedKernel(recording), OWN_MOUNTS, OLD_ROOT)  # type: ignore[arg-type]


def drawing(name: str) -> str:
    """Draw a machine as it is in both, as it should stand in NAME.drawing here."""
    before, pivoted = load(name)
    return f"{draw(look(before))}\n{PIVOTED}\n\n{draw(look_pivoted(pivoted))}"
