"""The tree that a build carries along, and its manifest: where they are, how to write and check it.

A frozen `finalstage` holds both in itself; in a checkout they are what `make dist` left in
dist/payload/. Uses the standard library alone.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from finalstage.cli import inside

MANIFEST = "tree.manifest"
ARCHIVE = "tree.tar.xz"
PIECE = 1 << 16


class PayloadError(Exception):
    """The tree is missing, damaged, or cannot be written; the message says which and where."""


@dataclass(frozen=True, order=True)
class Entry:
    """One path of the tree, relative to its root: a directory, a file or a symbolic link."""

    path: str
    kind: str  # "d", "f" or "l"
    mode: int = 0o777  # permission bits; of no meaning for a link
    size: int = 0  # bytes of a file
    sha256: str = ""  # of a file
    target: str = ""  # of a link

    def line(self) -> str:
        """The entry as a line of the manifest."""
        if self.kind == "l":
            return f"l {self.path} {self.target}"
        if self.kind == "d":
            return f"d {self.path} {self.mode:04o}"
        return f"f {self.path} {self.mode:04o} {self.size} {self.sha256}"

    @classmethod
    def parse(cls, line: str) -> "Entry":
        """The entry that a line of the manifest describes. Raises PayloadError."""
        match line.split(" "):
            case ["l", path, target]:
                return cls(path, "l", target=target)
            case ["d", path, mode]:
                return cls(path, "d", int(mode, 8))
            case ["f", path, mode, size, sha256]:
                return cls(path, "f", int(mode, 8), int(size), sha256)
        raise PayloadError(f"not a line of a manifest: {line!r}")

    @classmethod
    def of(cls, root: Path, path: str) -> "Entry":
        """The entry that describes what is at `path` below `root` now. Raises OSError."""
        found = root / path
        status = found.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            return cls(path, "l", target=str(found.readlink()))
        if stat.S_ISDIR(status.st_mode):
            return cls(path, "d", mode)
        with found.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path, "f", mode, status.st_size, digest)


def payload_dir() -> Path:
    """The folder with the archive and its manifest. Raises PayloadError if there is none."""
    folder = inside.folder("payload", "dist/payload")
    if not (folder / MANIFEST).is_file():
        raise PayloadError(f"there is no tree in {folder}: `make dist` builds one")
    return folder


def read_manifest() -> tuple[Entry, ...]:
    """All entries of the tree, directories before what is in them. Raises PayloadError."""
    text = (payload_dir() / MANIFEST).read_text(encoding="ascii")
    return tuple(Entry.parse(line) for line in text.splitlines())


def open_payload() -> tarfile.TarFile:
    """The tree as an open archive, a context manager. Raises PayloadError, OSError, TarError."""
    return tarfile.open(payload_dir() / ARCHIVE)


def tree_size() -> int:
    """Bytes that the tree takes on a tmpfs. Raises PayloadError."""
    return size_on_tmpfs(read_manifest())


def size_on_tmpfs(entries: Iterable[Entry]) -> int:
    """Bytes that entries take on a tmpfs, where each path costs whole pages of 4096 bytes."""
    return sum(4096 + -(-entry.size // 4096) * 4096 for entry in entries)


def write_tree(root: Path) -> None:
    """Writes the tree into `root`, an existing directory with nothing of the tree in it.

    Raises PayloadError if the archive is not what the manifest says, OSError if a path cannot be
    written.
    """
    with open_payload() as archive:
        for entry in read_manifest():
            to = root / entry.path
            if entry.kind == "l":
                to.symlink_to(entry.target)
                continue
            if entry.kind == "d":
                to.mkdir()
            else:
                _write(archive, entry, to)
            to.chmod(entry.mode)


def differences(root: Path) -> list[str]:
    """What is not as the manifest says in the tree at `root`, a line each; empty if all is well.

    Paths that are in `root` beside the tree's own are no difference. Raises PayloadError.
    """
    found = []
    for entry in read_manifest():
        try:
            now = Entry.of(root, entry.path)
        except OSError as error:
            found.append(f"{entry.path}: {os.strerror(error.errno or 0)}")
            continue
        if now != entry:
            found.append(f"{entry.path}: is {now.line()!r}, should be {entry.line()!r}")
    return found


def _write(archive: tarfile.TarFile, entry: Entry, to: Path) -> None:
    """Write a file piece by piece: on a small machine there is no memory for a whole one."""
    digest = hashlib.sha256()
    member = archive.extractfile(entry.path)
    with to.open("wb") as file:
        while member and (piece := member.read(PIECE)):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != entry.sha256:
        raise PayloadError(f"{entry.path} is damaged in {payload_dir() / ARCHIVE}")
