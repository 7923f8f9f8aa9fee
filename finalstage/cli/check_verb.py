"""`finalstage check`: whether all that was set up for this machine makes sense."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finalstage.cli import config, setup
from finalstage.cli.parsing import add_verb
from finalstage.cli.problems import Problem, ProblemsError


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "check",
        help="see whether the configuration makes sense, and whether hooks would run",
        description="Reads FILE, the words of the kernel's command line that begin with"
        " finalstage., and the directory of hooks. Names each problem with its place and what to"
        " do about it; the status is 1 then.",
        examples=(
            ("check", "what is set up on this machine"),
            ("check ./finalstage.toml", "a configuration that is not in place yet"),
        ),
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help=f"the configuration (default: {config.PLACE}, if it is there)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Say that all is well. Raises ProblemsError if it is not."""
    said, problems = [], []
    for look in CHECKS:
        words, wrong = look(options)
        said += words
        problems += wrong
    if problems:
        raise ProblemsError(problems)
    yield f"OK: {', '.join(said)}"


def check_setup(options: argparse.Namespace) -> tuple[list[str], list[Problem]]:
    """Look at what is set up: the configuration, the kernel's command line, hooks."""
    place = options.file or config.PLACE
    found = setup.read(place)
    problems = list(found.problems)
    is_there = place.exists()
    if options.file and not is_there:
        problems.append(Problem(str(place), 0, "not there", "write it, or name another file"))
    words = [
        f"{place} sets {len(found.configuration.values)} options" if is_there else f"no {place}",
        f"the kernel's command line {len(found.configuration.on_command_line)}",
        f"{len(found.hooks)} hooks would run",
    ]
    return words, problems


Check = Callable[[argparse.Namespace], tuple[list[str], list[Problem]]]
CHECKS: tuple[Check, ...] = (check_setup,)
"""Each looks at one thing, and returns what it has found in words, and what is wrong."""
