"""What installing changes on a machine: each change can be described, made, seen, and undone.

All paths are relative to the root of the machine that is changed, which may be an image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from finalstage.cli.errors import RefusalError

ORIGINAL = ".finalstage-original"
BEGIN, END = "# finalstage: begin", "# finalstage: end"


@dataclass(frozen=True)
class Change:
    """One change. `path` is what it changes."""

    path: str

    @property
    def words(self) -> str:
        """What is done, for a person."""
        raise NotImplementedError

    def is_made(self, root: Path) -> bool:
        """Whether nothing is left to do."""
        raise NotImplementedError

    def concerns(self, root: Path) -> bool:
        """Whether it is for this machine at all."""
        return True

    def refuse(self, root: Path, ours: Change | None) -> None:
        """Raise RefusalError where something of somebody else's is in the way. `ours` is what was
        made there before, by our record."""

    def make(self, root: Path) -> None:
        """Do it, and nothing where it is done. Raises OSError."""
        raise NotImplementedError

    def undo(self, root: Path) -> str:
        """Take it back where it is as we have left it; return why it is left there, if it is.
        Raises OSError."""
        raise NotImplementedError

    def noted(self) -> dict[str, Any]:
        """Return what has to be kept for it to be undone."""
        return {"kind": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class Whole(Change):
    """A whole file of ours, known by its sum. `foreign` and `changed` say what is wrong with
    another one at its place, before it is made and when it is undone."""

    foreign: ClassVar[str]
    changed: ClassVar[str]

    @property
    def sum(self) -> str:
        """The SHA-256 of what is in it."""
        raise NotImplementedError

    def refuse(self, root: Path, ours: Change | None) -> None:
        place = root / self.path
        known = {self.sum} | ({ours.sum} if isinstance(ours, Whole) else set())
        if _is_there(place) and digest(place) not in known:
            remedy = "move it away if you do not need it"
            raise RefusalError(f"/{self.path} is there already, and {self.foreign}", remedy)

    def undo(self, root: Path) -> str:
        place = root / self.path
        if not _is_there(place):
            return ""
        if digest(place) != self.sum:
            return f"/{self.path} {self.changed}"
        place.unlink()
        return ""


@dataclass(frozen=True)
class File(Whole):
    """A file of ours: a script, a unit. With `only_if` only for machines that have that path."""

    foreign = "is not as finalstage left it"
    changed = "was changed by somebody"

    text: str
    mode: int
    only_if: str = ""

    @property
    def words(self) -> str:
        return f"write /{self.path}"

    @property
    def sum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def concerns(self, root: Path) -> bool:
        return not self.only_if or _is_there(root / self.only_if)

    def is_made(self, root: Path) -> bool:
        place = root / self.path
        return digest(place) == self.sum and place.stat().st_mode & 0o777 == self.mode

    def make(self, root: Path) -> None:
        _write(root / self.path, self.text.encode(), self.mode)


@dataclass(frozen=True)
class Program(Whole):
    """The program that is installed: a copy of `source`, whose sum is `sha256`."""

    foreign = "was not installed by finalstage"
    changed = "is another one than was installed"

    source: str
    sha256: str

    @property
    def words(self) -> str:
        return f"copy this program to /{self.path}"

    @property
    def sum(self) -> str:
        return self.sha256

    def is_made(self, root: Path) -> bool:
        return digest(root / self.path) == self.sha256

    def make(self, root: Path) -> None:
        if not self.is_made(root):
            _write(root / self.path, Path(self.source).read_bytes(), 0o755)


@dataclass(frozen=True)
class Link(Change):
    """A symbolic link, as by which a unit or a script is enabled."""

    target: str

    @property
    def words(self) -> str:
        return f"link /{self.path} to {self.target}"

    def is_made(self, root: Path) -> bool:
        place = root / self.path
        return place.is_symlink() and self._led_to(str(place.readlink())) == self._led_to(
            self.target
        )

    def _led_to(self, target: str) -> str:
        """Return the path to which a link here would lead; systemctl(1) makes absolute ones."""
        return os.path.normpath(os.path.join("/", os.path.dirname(self.path), target))

    def refuse(self, root: Path, ours: Change | None) -> None:
        is_ours = self.is_made(root) or (isinstance(ours, Link) and ours.is_made(root))
        if _is_there(root / self.path) and not is_ours:
            raise RefusalError(f"/{self.path} is there already", "move it away")

    def make(self, root: Path) -> None:
        place = root / self.path
        if not self.is_made(root):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            place.symlink_to(self.target)

    def undo(self, root: Path) -> str:
        if self.is_made(root):
            (root / self.path).unlink()
        elif _is_there(root / self.path):
            return f"/{self.path} was changed by somebody"
        return ""


@dataclass(frozen=True)
class Insert(Change):
    """Lines in a file of somebody else's, between two marks: before the line `before`, or `first`,
    which is below an interpreter's name, or last. Where the file is not there, it begins with
    `create`, if that is given, and goes when the lines go; or, where it is `optional`, nothing is
    done."""

    lines: tuple[str, ...]
    before: str = ""
    first: bool = False
    create: str = ""
    mode: int = 0o644
    optional: bool = False

    def concerns(self, root: Path) -> bool:
        return not self.optional or _is_there(root / self.path)

    @property
    def words(self) -> str:
        return f"insert into /{self.path}: {'; '.join(self.lines)}"

    @property
    def _block(self) -> list[str]:
        return [BEGIN, *self.lines, END]

    def _split(self, root: Path) -> tuple[list[str], list[str], list[str]]:
        """Return the file's lines before, between and after our marks; the marks are between."""
        text = (root / self.path).read_text(errors="surrogateescape")
        lines = text.split("\n")
        if BEGIN not in lines or END not in lines[lines.index(BEGIN) :]:
            return lines, [], []
        begin = lines.index(BEGIN)
        end = lines.index(END, begin) + 1
        return lines[:begin], lines[begin:end], lines[end:]

    def is_made(self, root: Path) -> bool:
        return _is_there(root / self.path) and self._split(root)[1] == self._block

    def refuse(self, root: Path, ours: Change | None) -> None:
        if not _is_there(root / self.path) and not self.create:
            raise RefusalError(f"there is no /{self.path} to insert lines into")
        if _is_there(root / self.path) and not (root / self.path).is_file():
            raise RefusalError(f"/{self.path} is not a file")

    def make(self, root: Path) -> None:
        place = root / self.path
        if not _is_there(place):
            _write(place, "\n".join([self.create, *self._block, ""]).encode(), self.mode)
            return
        before, ours, after = self._split(root)
        if not ours:
            lines = before
            at = self._place(lines)
            before, after = lines[:at], lines[at:]
        self._put(place, [*before, *self._block, *after])

    def _place(self, lines: list[str]) -> int:
        """Return where the lines of a file are parted for ours."""
        if self.before and self.before in lines:
            return lines.index(self.before)
        if self.first:
            return 1 if lines[0].startswith("#!") else 0
        return len(lines) - (lines[-1] == "")  # that is the end of the last line

    def undo(self, root: Path) -> str:
        place = root / self.path
        if not _is_there(place):
            return ""
        before, ours, after = self._split(root)
        if self.create and [*before, *after] == [self.create, ""]:
            place.unlink()
        elif ours:
            self._put(place, [*before, *after])
        return ""

    def _put(self, place: Path, lines: list[str]) -> None:
        text = "\n".join(lines).encode(errors="surrogateescape")
        status = place.stat()
        _write(place, text, status.st_mode & 0o7777, (status.st_uid, status.st_gid))


@dataclass(frozen=True)
class Divert(Change):
    """A link to another program, such as busybox, that is moved aside for a program of ours to take
    its place. `if_link_to` is the name of that other program; nothing else is moved."""

    if_link_to: str
    optional: bool = False

    @property
    def words(self) -> str:
        return f"move /{self.path} to /{self.path}{ORIGINAL}"

    def is_made(self, root: Path) -> bool:
        return not self._is_original(root)

    def refuse(self, root: Path, ours: Change | None) -> None:
        if not _is_there(root / self.path) and not self.optional:
            raise RefusalError(f"there is no /{self.path} to move aside")
        if self._is_original(root) and _is_there(self._aside(root)):
            raise RefusalError(f"/{self.path}{ORIGINAL} is there already", "move it away")

    def make(self, root: Path) -> None:
        if self._is_original(root):
            (root / self.path).rename(self._aside(root))

    def undo(self, root: Path) -> str:
        aside = self._aside(root)
        if not _is_there(aside):
            return ""
        if _is_there(root / self.path):
            return f"/{self.path} was changed by somebody; the original is /{self.path}{ORIGINAL}"
        aside.rename(root / self.path)
        return ""

    def _is_original(self, root: Path) -> bool:
        place = root / self.path
        return place.is_symlink() and place.readlink().name == self.if_link_to

    def _aside(self, root: Path) -> Path:
        return root / f"{self.path}{ORIGINAL}"


KINDS: dict[str, Callable[..., Change]] = {
    kind.__name__: kind for kind in (File, Program, Link, Insert, Divert)
}


def from_note(note: dict[str, Any]) -> Change:
    """Return the change that was noted. Raises KeyError or TypeError for what is no note."""
    return KINDS[note["kind"]](**arguments(note))


def arguments(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table of TOML or JSON as arguments of a change."""
    return {
        key.replace("-", "_"): tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
        if key != "kind"
    }


def _is_there(place: Path) -> bool:
    return os.path.lexists(place)


def digest(place: Path) -> str:
    """Return the SHA-256 of a file, and nothing of what is no file of its own."""
    if not place.is_file() or place.is_symlink():
        return ""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(place: Path, content: bytes, mode: int, owner: tuple[int, int] = (-1, -1)) -> None:
    """Write a file, all of it or nothing. Raises OSError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f"{place.name}.finalstage-new")
    try:
        new.write_bytes(content)
        new.chmod(mode)
        os.chown(new, *owner)
        new.replace(place)
    except OSError:
        new.unlink(missing_ok=True)
        raise
