"""Locks that are files, in the way of LVM and mdadm: whoever holds one removes it in the end.

Sources: _do_flock() in lib/misc/lvm-flock.c of lvm2, map_lock() in mapfile.c of mdadm.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finalstage.kernel import Kernel

LOOK_SECONDS = 0.1
"""How often a lock is asked for."""


@contextmanager
def held(kernel: Kernel, path: Path, until: float) -> Iterator[None]:
    """Hold a lock, and remove its file in the end. Raises TimeoutError if it is not to be had by
    the time `until`, OSError if there cannot be such a file."""
    while (fd := _take(path)) < 0:
        if kernel.now() >= until:
            raise TimeoutError(str(path))
        kernel.sleep(LOOK_SECONDS)
    try:
        yield
    finally:
        if _is_there(path, fd):
            path.unlink()
        os.close(fd)


def _take(path: Path) -> int:
    """Return a descriptor of the locked file, or -1 while it is somebody else's."""
    while True:
        fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return -1
        if _is_there(path, fd):
            return fd
        os.close(fd)  # who had it before has removed it: a lock on it means nothing any more


def _is_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
