"""Directories that are built once, under a lock, and named after all that went into them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BUILD = PROJECT / ".build" / "vm"
UNUSED_SECONDS = 2 * 3600
FAILURES = PROJECT / ".build" / "vm-failures"


def digest(*ingredients: object) -> str:
    """A short hash over the `repr` of the ingredients; a Path stands for the content there."""
    whole = hashlib.sha256()
    for each in ingredients:
        if isinstance(each, Path):
            for file in sorted(each.rglob("*")) if each.is_dir() else [each]:
                if file.is_file():
                    whole.update(repr(str(file.relative_to(each))).encode() + file.read_bytes())
        else:
            whole.update(repr(each).encode())
    return whole.hexdigest()[:16]


def once(name: str, build: Callable[[Path], None]) -> Path:
    """The directory `name` in `.build/vm`, filled by `build` unless an earlier run has done so.

    Another process that wants the same directory waits for the first one. A build that fails
    leaves nothing that a later run could take for a finished one.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    done, partial = BUILD / name, BUILD / f"{name}.partial"
    with (BUILD / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            build(partial)
            partial.rename(done)
            _forget_the_unused()
        done.touch()
    return done


def _forget_the_unused() -> None:
    """Remove what no run has used for long: a saved machine takes some 300 MB.

    Not what somebody builds just now, and holds locked: a package that is unpacked there gives
    the folder the date of its own.
    """
    for folder in filter(Path.is_dir, BUILD.iterdir()):
        lock = BUILD / f"{folder.name.removesuffix('.partial')}.lock"
        with lock.open("w") as held, suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - folder.stat().st_mtime > UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
