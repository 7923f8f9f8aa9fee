"""/etc/fstab, read: fstab(5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finalstage import mountinfo

FSTAB = Path("/etc/fstab")


@dataclass(frozen=True)
class Entry:
    """A line: its number, what is mounted where, without a slash at its end, and how."""

    number: int
    source: str
    target: str
    fstype: str
    options: tuple[str, ...]


def read() -> list[Entry]:
    """Return the lines of this machine's that say something; none where it has none."""
    return parse(FSTAB.read_text(errors="surrogateescape")) if FSTAB.exists() else []


def parse(text: str) -> list[Entry]:
    """Return the lines that say something, in their order."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = [mountinfo.unescape(field) for field in line.split()]
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        source, target, fstype, *rest = fields
        options = tuple(rest[0].split(",")) if rest else ()
        found.append(Entry(number, source, target.rstrip("/"), fstype, options))
    return found
