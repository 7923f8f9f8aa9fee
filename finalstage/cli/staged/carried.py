"""What the tree carries for this machine: files, and all that the programs among them need.

Each lies in the tree where it lies on the machine, with the links that lead to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from finalstage.cli import files
from finalstage.cli.problems import WrongError
from finalstage.cli.staged import closure
from finalstage.cli.staged.payload import Entry, size_on_tmpfs

MANIFEST = "etc/finalstage.manifest"
"""In a tree that carries something: a line for each thing; by it a change is noticed."""

MOST_LINKS = 40

OURS = (
    *("finalstage", "shutdown", "wipe-keys", "verb", "usr/lib/finalstage", "etc/finalstage/hooks"),
    MANIFEST,
)
COVERED = ("dev", "oldroot", "proc", "run", "sys")
"""Where the tree has something else: its own, or what is mounted there."""


@dataclass
class Carried:
    """Entries by their paths in the tree, and the content of those that are files."""

    entries: dict[str, Entry] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    total: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes on a tmpfs."""
        return size_on_tmpfs(self.entries.values())

    def add(self, path: Path) -> None:
        """Add a file or a folder of the machine, and all that programs in it need. Raises
        WrongError, and then has added nothing."""
        self._try(lambda new: new._add(path))

    def add_program(self, path: Path, place: str) -> None:
        """Add a program at a place of its own, and all that it needs. Raises WrongError, and then
        has added nothing."""
        self._try(lambda new: new._add_file(path, place))

    def _try(self, act: Callable[[Carried], None]) -> None:
        new = Carried(dict(self.entries), dict(self.contents), self.total)
        try:
            act(new)
        except OSError as error:  # what is asked of the machine on the way, not of one file
            reason = f"{error.filename}: {(error.strerror or '').lower()}"
            raise WrongError(reason, "see to it that it can be read") from error
        self.entries, self.contents, self.total = new.entries, new.contents, new.total

    def put(self, place: str, data: bytes, mode: int) -> None:
        """Add a file of any content. Raises WrongError where all together are too large."""
        self.total += len(data)
        if self.total > files.MOST:
            raise WrongError(
                "too large, with all else", f"have less than {files.MOST >> 20} MiB carried"
            )
        self._put_folders(place)
        digest = hashlib.sha256(data).hexdigest()
        self.entries[place] = Entry(place, "f", mode, len(data), digest)
        self.contents[place] = data

    def _put_folders(self, place: str) -> None:
        for folder in PurePosixPath(place).parents[:-1]:
            self.entries.setdefault(str(folder), Entry(str(folder), "d", 0o755))

    def _add(self, path: Path) -> None:
        found = self._follow(path)
        place = str(found.relative_to("/"))
        _refuse_taken(place)
        if found.is_dir():
            self._put_folders(f"{place}/.")
            for each in sorted(found.iterdir()):
                self._add(each)
        else:
            self._add_file(found, place)

    def _follow(self, path: Path) -> Path:
        """Return where a path leads to, and add the links on the way."""
        found, todo, links = Path("/"), list(path.parts[1:]), 0
        while todo:
            name = todo.pop(0)
            here = found.parent if name == ".." else found / name
            if not here.is_symlink():
                found = here
                continue
            links += 1
            if links > MOST_LINKS:
                raise WrongError(f"{path} leads through too many links", "correct them")
            target = here.readlink()
            place = str(here.relative_to("/"))
            _refuse_taken(place)
            self._put_folders(place)
            self.entries[place] = Entry(place, "l", target=str(target))
            found = Path("/") if target.is_absolute() else found
            todo[:0] = [part for part in target.parts if part != "/"]
        return found

    def _add_file(self, path: Path, place: str) -> None:
        if place in self.contents:
            return
        try:
            content = files.read(path, files.MOST)
        except FileNotFoundError as error:
            raise WrongError(f"{path} is not there", "install it, or correct the path") from error
        except WrongError as error:
            raise WrongError(f"{path}: {error}", error.remedy) from error
        self.put(place, content.data, content.mode & 0o755)
        if content.mode & 0o111 or content.data.startswith(closure.ELF):
            for each in closure.needs(path, content.data):
                self._add(each)

    def write(self, root: Path) -> None:
        """Write it into a tree that has nothing of it yet. Raises OSError."""
        for entry in sorted(self.entries.values(), key=lambda entry: entry.path.split("/")):
            place = root / entry.path
            if entry.kind == "l":
                place.symlink_to(entry.target)
            elif entry.kind == "d":
                if not place.is_dir():  # not one of the tree's own
                    place.mkdir()
                    place.chmod(entry.mode)
            else:
                place.write_bytes(self.contents[entry.path])
                place.chmod(entry.mode)
        if self.entries:
            (root / MANIFEST).parent.mkdir(mode=0o755, exist_ok=True)
            (root / MANIFEST).write_bytes(self._manifest())

    def is_in(self, root: Path) -> bool:
        """Whether a tree carries just this."""
        return not self.differences(root)

    def differences(self, root: Path) -> list[str]:
        """Return the paths of what a tree does not carry as it should. What it carries and should
        not is in MANIFEST alone."""
        wanted = self._manifest() if self.entries else None
        found = [MANIFEST] if _content(root / MANIFEST) != wanted else []
        return found + [
            entry.path
            for entry in self.entries.values()
            if entry.kind != "d" and not _is_at(root, entry)
        ]

    def _manifest(self) -> bytes:
        lines = (f"{entry.line()}\n" for entry in sorted(self.entries.values()))
        return "".join(lines).encode("utf-8", "surrogateescape")


def _content(place: Path) -> bytes | None:
    try:
        return place.read_bytes()
    except OSError:
        return None


def _is_at(root: Path, entry: Entry) -> bool:
    try:
        return Entry.of(root, entry.path) == entry
    except OSError:
        return False


def _refuse_taken(place: str) -> None:
    """Raise WrongError for what cannot be at its place in the tree."""
    for taken in (*OURS, *COVERED):
        if place == taken or place.startswith(f"{taken}/"):
            raise WrongError(
                f"/{place} cannot be carried: the tree has its own", "keep it elsewhere"
            )
