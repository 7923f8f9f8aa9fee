"""The administrator's own programs: which there are for each moment, and what keeps one from
running."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from finalstage import moments
from finalstage.cli import files
from finalstage.cli.problems import Problem, WrongError
from finalstage.cli.staged import closure
from finalstage.cli.staged.carried import Carried

MOST = 64
"""Of one moment: MOST_HOOKS in finalstage/launcher/hooks.c."""

BACKUPS = (
    *("rpmnew", "rpmsave", "rpmorig", "dpkg-old", "dpkg-new", "dpkg-tmp", "dpkg-dist"),
    *("dpkg-bak", "dpkg-backup", "dpkg-remove", "ucf-new", "ucf-old", "ucf-dist"),
    *("swp", "bak", "old", "new"),
)
"""Endings of names that are not run: is_backup() in finalstage/launcher/hooks.c."""


def add_to(carried: Carried, directory: Path) -> tuple[list[str], list[Problem]]:
    """Have the tree carry all that lie in a directory, with what they need. Return their places in
    the tree, and what is wrong with those that cannot run."""
    places: list[str] = []
    problems: list[Problem] = []
    for path, moment in _programs(directory, problems):
        place = f"{moments.FOLDER.lstrip('/')}/{moment}/{path.name}"
        try:
            _refuse(path)
            carried.add_program(path, place)
            places.append(place)
        except WrongError as error:
            problems.append(error.at(path))
    return places, problems


def _programs(directory: Path, problems: list[Problem]) -> Iterator[tuple[Path, str]]:
    """Yield all there are, in the order in which they run, with their moments."""
    remedy = f"it may be {', '.join(moments.ALL)}"
    folders = _listed(directory, problems)
    for path in folders:
        if path.name not in moments.ALL and (path.is_dir() or os.access(path, os.X_OK)):
            problems.append(Problem(str(path), 0, "not the folder of a moment", remedy))
    for moment in (moment for moment in moments.ALL if directory / moment in folders):
        found = [path for path in _listed(directory / moment, problems) if not is_backup(path.name)]
        for path in found[MOST:]:
            what = f"one more than the {MOST} that a moment may have"
            problems.append(Problem(str(path), 0, what, "put some into one program"))
        yield from ((path, moment) for path in found[:MOST])


def _listed(directory: Path, problems: list[Problem]) -> list[Path]:
    """Return what is in a directory that is there and root's alone, in the order of names."""
    try:
        files.refuse_others(directory, directory.stat())
        return sorted(directory.iterdir(), key=lambda path: os.fsencode(path.name))
    except FileNotFoundError:
        return []
    except WrongError as error:
        problems.append(error.at(directory))
    except OSError as error:
        reason = f"cannot be listed: {(error.strerror or '').lower()}"
        problems.append(Problem(str(directory), 0, reason, "make it a directory of root's"))
    return []


def is_backup(name: str) -> bool:
    """Whether a package manager or an editor has left a file of this name."""
    _, dot, ending = name.rpartition(".")
    return name.startswith(".") or name.endswith("~") or (dot == "." and ending in BACKUPS)


def _refuse(path: Path) -> None:
    """Raise WrongError where a file would not be run as a program, whatever it needs."""
    if not path.name.isprintable():
        raise WrongError("its name has characters that cannot be shown", "rename it")
    try:
        content = files.read(path, files.MOST)
    except FileNotFoundError as error:
        raise WrongError("a link to nothing", "correct it, or remove it") from error
    if not content.data:
        raise WrongError("empty", "remove it, or write it")
    if not content.mode & 0o111:
        raise WrongError("not executable", f"chmod +x {path}, or remove it")
    if not content.data.startswith((closure.ELF, closure.SCRIPT)):
        remedy = "begin it with #!/bin/sh, or with another interpreter"
        raise WrongError("neither a program nor a script", remedy)
