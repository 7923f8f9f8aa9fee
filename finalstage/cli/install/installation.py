"""Installing on a machine, or in the root of an image, and taking it back without a trace.

What is done is noted before it is begun with, so that also what broke off can be taken back.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from finalstage import __version__
from finalstage.cli import inside
from finalstage.cli.completion_verb import SCRIPTS, script
from finalstage.cli.errors import RefusalError
from finalstage.cli.install import changes
from finalstage.cli.install.changes import Change, Divert, File, Program
from finalstage.cli.install.overlay import Command, Overlay

RECORDS = "var/lib/finalstage"
PROGRAM = "usr/local/sbin/finalstage"
"""By this path the overlays' files call it."""

MANUAL = "usr/local/share/man"

HOST = Path("/")


@dataclass(frozen=True)
class Record:
    """What was installed. `folders` are those that were made for it."""

    name: str
    changes: tuple[Change, ...]
    folders: tuple[str, ...]
    uninstall_first: tuple[Command, ...]
    uninstall_last: tuple[Command, ...]

    def with_same(self, todo: tuple[Change, ...]) -> Record:
        """Return the record with what another one changes too as it is there."""
        there = {change.path: change for change in todo}
        changes = tuple(there.get(change.path, change) for change in self.changes)
        return replace(self, changes=changes)

    def write(self, root: Path) -> None:
        """Keep it, on the machine itself. Raises OSError."""
        note = {
            "version": __version__,
            "changes": [change.noted() for change in self.changes],
            "folders": self.folders,
            "uninstall-first": self.uninstall_first,
            "uninstall-last": self.uninstall_last,
        }
        place = record_place(root, self.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(note, indent=1))


def record_place(root: Path, name: str) -> Path:
    """Return where the record of an overlay is kept."""
    return root / RECORDS / f"{name}.json"


def records(root: Path) -> dict[str, Record]:
    """Return what is installed, by the names of the overlays. Raises RefusalError."""
    return {place.stem: _read(place) for place in sorted((root / RECORDS).glob("*.json"))}


def _read(place: Path) -> Record:
    try:
        note = json.loads(place.read_text())
        return Record(
            name=place.stem,
            changes=tuple(changes.from_note(each) for each in note["changes"]),
            folders=tuple(note["folders"]),
            uninstall_first=_words(note["uninstall-first"]),
            uninstall_last=_words(note["uninstall-last"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RefusalError(
            f"cannot make sense of {place}, which says what was installed",
            "install again over it, after you have moved it away",
        ) from error


def _words(commands: list[list[str]]) -> tuple[Command, ...]:
    return tuple(tuple(words) for words in commands)


def this_program() -> Path:
    """Return the file that is to be installed. Raises RefusalError where it is not built."""
    if getattr(sys, "frozen", False):
        return Path(sys.executable).resolve()
    built = inside.CHECKOUT / "dist/finalstage"
    if not built.is_file():
        raise RefusalError("there is no dist/finalstage to install", "run make dist")
    return built


def install(wanted: Overlay, root: Path, dry_run: bool) -> Iterator[str]:
    """Make all changes of an overlay, and say each. What fails is taken back. Raises RefusalError.

    The commands are only run where `root` is that of the machine itself.
    """
    known = records(root)
    own = [change for change in wanted.changes if change.concerns(root)]
    todo = (*common(), *own)
    for change in todo:
        _refuse_outside(root, change.path)
    _refuse_what_is_in_the_way(todo, known, root)
    old = known.pop(wanted.name, None)
    _refuse_what_is_of_another(own, known)
    new = {change.path for change in todo}
    stale = [each for each in old.changes if each.path not in new] if old else []
    missing = [change for change in todo if not change.is_made(root)]
    commands = wanted.install if root == HOST else ()
    later = () if root == HOST else wanted.install
    if old and not stale and not missing:
        yield f"{wanted.name} is installed already"
        return
    if dry_run:
        yield from (f"would take back: {change.words}" for change in stale)
        yield from (f"would {change.words}" for change in missing)
        yield from (f"would run {' '.join(command)}" for command in commands)
        return
    record = Record(
        name=wanted.name,
        changes=todo,
        folders=(*(old.folders if old else ()), *_missing_folders(root, todo)),
        uninstall_first=wanted.uninstall_first,
        uninstall_last=wanted.uninstall_last,
    )
    try:
        record.write(root)
        for other in known.values():
            other.with_same(todo).write(root)
        for change in stale:
            change.undo(root)
            yield f"took back: {change.words}"
        for change in missing:
            change.make(root)
            yield change.words
        for command in commands:
            yield f"run {' '.join(command)}"
            _run(command)
        for command in later:
            yield f"left to be run there: {' '.join(command)}"
    except OSError as error:
        remedy = "run it again, or finalstage uninstall" if old else "nothing was changed"
        if not old:
            _take_back(record, root, known)
        raise RefusalError(
            f"cannot install for {wanted.name}: {error.strerror} ({error.filename})", remedy
        ) from error


def common() -> tuple[Change, ...]:
    """Return what is installed with each overlay: the program, its manual pages, and what
    shells complete its command line by."""
    program, pages = this_program(), manual()
    return (
        Program(PROGRAM, str(program), changes.digest(program)),
        *(
            File(f"{MANUAL}/{page.relative_to(pages)}", page.read_text(), 0o644)
            for page in sorted(pages.glob("man*/*"))
        ),
        *(File(path, script(shell), 0o644) for shell, path in SCRIPTS.items()),
    )


def manual() -> Path:
    """Return the folder of the manual pages."""
    return inside.folder("man", "dist/man")


def uninstall(names: list[str], root: Path, dry_run: bool) -> Generator[str, None, list[str]]:
    """Take back what was installed under these names, or all of it, and say each step. Return what
    had to be left, in words. Raises RefusalError."""
    known = records(root)
    if not known:
        yield "nothing is installed"
    for name in names:
        if name not in known:
            raise RefusalError(f"{name} is not installed", f"installed: {', '.join(known)}")
    left: list[str] = []
    for name in names or list(known):
        record = known.pop(name)
        left += yield from _uninstall(record, root, _paths(known), dry_run)
    return left


def _uninstall(
    record: Record, root: Path, shared: set[str], dry_run: bool
) -> Generator[str, None, list[str]]:
    first = record.uninstall_first if root == HOST else ()
    last = record.uninstall_last if root == HOST else ()
    own = [change for change in reversed(record.changes) if change.path not in shared]
    if dry_run:
        yield from (f"would run {' '.join(command)}" for command in first)
        yield from (f"would take back: {change.words}" for change in own)
        yield from (f"would run {' '.join(command)}" for command in last)
        return []
    left = []
    for command in first:
        yield from _try(command)
    for change in own:
        if reason := _undo(change, root):
            left.append(reason)
        else:
            yield f"took back: {change.words}"
    record_place(root, record.name).unlink(missing_ok=True)
    _remove_folders(root, (*record.folders, RECORDS))
    for command in last:
        yield from _try(command)
    return left


def _undo(change: Change, root: Path) -> str:
    """Take a change back; return why it is left, if it is."""
    try:
        return change.undo(root)
    except OSError as error:
        return f"/{change.path}: {error.strerror}"


def _paths(of: dict[str, Record]) -> set[str]:
    return {change.path for record in of.values() for change in record.changes}


def _refuse_what_is_of_another(own: list[Change], others: dict[str, Record]) -> None:
    """Raise RefusalError where another overlay has put something else."""
    new = {change.path: change for change in own}
    for name, record in others.items():
        for change in record.changes:
            if new.get(change.path, change) != change:
                raise RefusalError(
                    f"/{change.path} is that of {name}, which is installed too",
                    f"finalstage uninstall --init {name}",
                )


def _refuse_what_is_in_the_way(
    todo: tuple[Change, ...], known: dict[str, Record], root: Path
) -> None:
    ours = {change.path: change for record in known.values() for change in record.changes}
    moved = {each.path for each in todo if isinstance(each, Divert) and not each.is_made(root)}
    for change in todo:
        if not (isinstance(change, File) and change.path in moved):
            before = ours.get(change.path)
            change.refuse(root, before)


def _refuse_outside(root: Path, path: str) -> None:
    """Raise RefusalError where links lead out of the root that is to be changed."""
    if root != HOST and not (root / path).parent.resolve().is_relative_to(root.resolve()):
        raise RefusalError(f"{root / path} leads out of {root} by a link", "use a relative link")


def _missing_folders(root: Path, todo: tuple[Change, ...]) -> list[str]:
    """Return the folders that have to be made for these changes, the outer ones first."""
    found: dict[str, None] = {}
    for path in (RECORDS + "/record", *(change.path for change in todo)):
        for folder in reversed(Path(path).parents[:-1]):
            if not (root / folder).is_dir():
                found[str(folder)] = None
    return list(found)


def _remove_folders(root: Path, folders: tuple[str, ...]) -> None:
    """Remove those of them that are empty."""
    for folder in sorted(set(folders), key=len, reverse=True):
        place = root / folder
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _take_back(record: Record, root: Path, others: dict[str, Record]) -> None:
    shared = _paths(others)
    for change in reversed(record.changes):
        if change.path not in shared:
            _undo(change, root)
    record_place(root, record.name).unlink(missing_ok=True)
    _remove_folders(root, record.folders)


def _run(command: Command) -> None:
    """Run a command, and have its words on the terminal. Raises OSError if it fails."""
    status = subprocess.run(command).returncode
    if status:
        raise OSError(None, f"it ended with status {status}", " ".join(command))


def _try(command: Command) -> Iterator[str]:
    yield f"run {' '.join(command)}"
    try:
        _run(command)
    except OSError as error:
        yield f"{error.filename}: {error.strerror}"
