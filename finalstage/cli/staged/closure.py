"""What a program needs to be executed: its interpreter, and the libraries that are loaded with it.

An ELF file's ld.so is asked for the libraries: nobody else knows all the ways in which it finds
them. Source: ld.so(8), --list; musl, ldso/dynlink.c; fs/binfmt_script.c.
"""

from __future__ import annotations

import re
import shlex
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from finalstage.cli.problems import WrongError

ELF, SCRIPT = b"\x7fELF", b"#!"

EI_CLASS, EI_DATA = 4, 5
PT_DYNAMIC, PT_INTERP = 2, 3
HEADERS = {1: (("I", 28), 42, (4, 16)), 2: (("Q", 32), 54, (8, 32))}
"""Of both classes: e_phoff, e_phentsize with e_phnum behind it, p_offset and p_filesz."""

LONGEST_FIRST_LINE = 256
"""BINPRM_BUF_SIZE in <linux/binfmts.h>."""

SHELL = Path("/bin/sh")
"""A program of the machine, whose interpreter is the one for its libraries."""

SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of hooks: finalstage/launcher/hooks.c."""

HELP_TO_FIND = ("ld.so.cache", "ld-musl-*.path")
"""In /etc; with these an ld.so finds libraries in other places than its own."""

MISSING = re.compile(r"^\s*(\S+) => not found$|shared librar(?:ies:|y) (\S+): .*No such file", re.M)
"""How an ld.so says that a library is missing: glibc's in two ways, musl's."""

PATIENCE = 10
"""Seconds for ld.so, which only reads files."""


def needs(path: Path, data: bytes) -> Iterator[Path]:
    """Yield what a program needs beside itself, if it is one; not always what that needs in turn.
    Raises WrongError where it could not be executed."""
    if data.startswith(SCRIPT):
        yield from _needs_of_script(data)
    elif data.startswith(ELF):
        yield from _needs_of_elf(path, data)


def _needs_of_script(data: bytes) -> Iterator[Path]:
    line = data[len(SCRIPT) : LONGEST_FIRST_LINE].partition(b"\n")[0].decode("utf-8", "replace")
    if line.endswith("\r"):
        raise WrongError("its lines end in a carriage return", "save it with the line ends of Unix")
    interpreter, _, argument = line.strip(" \t").partition(" ")
    yield _interpreter(interpreter)
    if Path(interpreter).name == "env":
        yield _found_by_env(argument)


def _found_by_env(argument: str) -> Path:
    """Return the program that env(1) executes: the first word that is not for itself."""
    try:
        words = shlex.split(argument.strip().removeprefix("-S"))
    except ValueError as error:
        reason = f"its first line makes no sense: {str(error).lower()}"
        raise WrongError(reason, "see env(1), -S") from error
    program = next((word for word in words if word[:1] != "-" and "=" not in word), "")
    found = shutil.which(program, path=SEARCHED)
    if not found:
        raise WrongError(f"its interpreter {program!r} is not there", f"install it in {SEARCHED}")
    return Path(found)


def _interpreter(path: str) -> Path:
    if not path.startswith("/") or not Path(path).is_file():
        raise WrongError(
            f"its interpreter {path!r} is not there", "install it, or correct the path"
        )
    return Path(path)


def _needs_of_elf(path: Path, data: bytes) -> Iterator[Path]:
    interpreter, is_dynamic = segments(data)
    if interpreter:
        yield _interpreter(interpreter)
    elif is_dynamic:  # a library, which has no interpreter of its own
        interpreter, _ = segments(SHELL.read_bytes())
    if interpreter:
        yield from _libraries(interpreter, path)
        for pattern in HELP_TO_FIND:
            yield from sorted(Path("/etc").glob(pattern))


def segments(data: bytes) -> tuple[str, bool]:
    """Return the ld.so of an ELF file, "" for one without, and whether there may be libraries to
    look for. Raises WrongError. Source: <elf.h>, elf(5)."""
    try:
        order = {1: "<", 2: ">"}[data[EI_DATA]]
        place, numbers, header = HEADERS[data[EI_CLASS]]
        (start,) = struct.unpack_from(order + place[0], data, place[1])
        size, count = struct.unpack_from(f"{order}HH", data, numbers)
        found: dict[int, bytes] = {}
        for at in range(start, start + count * size, size or 1):
            (kind,) = struct.unpack_from(f"{order}I", data, at)
            offset, length = (
                struct.unpack_from(order + place[0], data, at + field)[0] for field in header
            )
            found.setdefault(kind, data[offset : offset + length])
        return found.get(PT_INTERP, b"").rstrip(b"\0").decode(), PT_DYNAMIC in found
    except (LookupError, OverflowError, struct.error, UnicodeDecodeError) as error:
        raise WrongError("not an ELF file that makes sense", "build or install it anew") from error


def _libraries(loader: str, path: Path) -> Iterator[Path]:
    """Ask ld.so. It says ``NAME => PATH (ADDRESS)``, ``PATH (ADDRESS)``, or ``NAME => not
    found``."""
    try:
        ran = subprocess.run(
            [loader, "--list", path],
            env={},
            input="",  # the null device is not in every root
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WrongError(f"{loader} says nothing: {error}", "see whether it can be run") from error
    lines = [line.strip() for line in ran.stdout.splitlines()]
    if missing := MISSING.search(ran.stdout + ran.stderr):
        name = missing[1] or missing[2]
        raise WrongError(f"its library {name} is not there", "install it")
    if ran.returncode != 0:
        said = (ran.stderr.strip() or f"status {ran.returncode}").splitlines()[0]
        raise WrongError(f"it cannot be loaded: {said}", "have one that is made for this machine")
    for line in lines:
        place = line.rpartition(" (0x")[0].rpartition("=> ")[2]
        if place.startswith("/"):
            yield Path(place)
