"""Where the project's files are, and the few helpers that every step of the build shares."""

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
DIST = ROOT / "dist"

# In the tree: the folder of all libraries, and the ld.so in it, as the stage names it.
LIBRARY_DIR = "usr/lib/finalstage/_internal"
HOST_INTERPRETER = Path("/lib64/ld-linux-x86-64.so.2")
INTERPRETER = f"/{LIBRARY_DIR}/{HOST_INTERPRETER.name}"


def say(message: str) -> None:
    """One line of progress."""
    print(f"dist: {message}", flush=True)


def die(message: str, hint: str = "") -> SystemExit:
    """The exception for a build that cannot go on; the caller raises it."""
    return SystemExit(f"dist: error: {message}" + (f"\n  hint: {hint}" if hint else ""))


def digest(*parts: str | bytes) -> str:
    """SHA-256 of all parts, each with its length before it, so that no two lists look alike."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(b"%d:" % len(data))
        total.update(data)
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def compiler_version() -> str:
    """The C compiler's own description of itself."""
    return subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=True).stdout


def source_date() -> int:
    """The time stamp of every file that is written: SOURCE_DATE_EPOCH, else 0."""
    return int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def sources(*folders: str) -> Iterator[Path]:
    """The files below `folders` that the build reads, in a fixed order."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if (
                path.suffix in {".py", ".spec", ".c", ".h", ".json", ".scd"}
                and path.name != "_linux.c"
            ):
                yield path


def python_identity() -> str:
    """What changes whenever the interpreter that is frozen, or its C library, changes."""
    libraries = sorted(Path(sysconfig.get_config_var("LIBDIR")).glob("libpython3*.so.1.0"))
    stats = [(path, path.stat()) for path in [HOST_INTERPRETER, *libraries]]
    return "\n".join(
        [sys.version, *(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats)]
    )
