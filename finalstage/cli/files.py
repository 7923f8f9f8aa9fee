"""Files that root will trust: read only if they are root's, and nobody else can change them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from finalstage.cli.problems import WrongError

MOST = 64 << 20
"""Bytes of what the tree carries, each file and all together: it takes memory."""

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Content:
    """What is in a file, and its mode."""

    data: bytes
    mode: int


def read(path: Path, most: int) -> Content:
    """Read a regular file of at most so many bytes. Raises WrongError, FileNotFoundError.

    What was looked at is what is read, whatever becomes of the path meanwhile.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # it may be a pipe
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise WrongError("not a regular file", "put one in its place")
            refuse_others(path, found)
            if found.st_size > most:
                raise WrongError(f"too large, {found.st_size} bytes", f"it may have {most}")
            with open(descriptor, "rb", closefd=False) as file:
                return Content(file.read(most), stat.S_IMODE(found.st_mode))
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise WrongError(f"cannot be read: {reason}", "see to it that root can") from error


def refuse_others(path: Path, found: os.stat_result) -> None:
    """Raise WrongError if somebody but root can change what is there."""
    if found.st_uid != 0:
        raise WrongError("not root's, so it is not trusted", f"chown root {path}")
    if found.st_mode & OTHERS_WRITE:
        raise WrongError("others than root can write to it", f"chmod go-w {path}")
