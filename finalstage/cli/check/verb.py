"""`finalstage check`: is this machine ready; or does what was written for it make sense."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finalstage.cli import config, inside, setup
from finalstage.cli.check import callers, layers, memory, table, tree
from finalstage.cli.check import kernel as check_kernel
from finalstage.cli.check.readiness import OK, SCHEMA, UNKNOWN, Finding, Machine, Readiness, hidden
from finalstage.cli.output import Output
from finalstage.cli.parsing import add_verb
from finalstage.cli.problems import Problem, ProblemsError
from finalstage.cli.setup import Setup
from finalstage.kernel.linux import LinuxKernel
from finalstage.scan import scan


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "check",
        help="see whether this machine is ready, and what to do where it is not",
        description="Looks at all that finalstage needs at shutdown: the configuration and hooks,"
        " the tree in memory, who will call it, the kernel, and the layers of this machine. Changes"
        " nothing. Says what to do about each problem. The status is 0 where the machine is ready,"
        " with warnings or without, and 1 where it is not.",
        examples=(
            ("check", "whether this machine is ready"),
            ("check --quiet", "only what is not well, for cron"),
            ("check --json", "for monitoring"),
            ("check ./finalstage.toml", "a configuration that is not in place yet"),
        ),
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=Path,
        help="only see whether this configuration makes sense, with the hooks that it names",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, in the form of --schema")
    form.add_argument("--schema", action="store_true", help="print the JSON schema of --json")
    form.add_argument(
        "--quiet", action="store_true", help="only what is not well, and nothing where all is"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Look, and say what was found. Raises ProblemsError where something is wrong."""
    if options.schema:
        yield Output(inside.schema(SCHEMA))
    elif options.file:
        yield from check_file(options.file, options.json, options.quiet)
    else:
        found = Readiness.of(findings(this_machine()))
        yield from said(found, options.json, options.quiet)
        if not found.is_ready:
            raise ProblemsError(())


def check_file(place: Path, as_json: bool, quiet: bool) -> Iterator[str]:
    """See whether one configuration makes sense, with the kernel's command line and hooks."""
    found = setup.read(place)
    problems = list(found.problems)
    if not place.exists():
        problems.append(Problem(str(place), 0, "not there", "write it, or name another file"))
    if as_json:
        yield from said(Readiness.of(_set_up(place, found, problems)), as_json, quiet)
        if problems:
            raise ProblemsError(())
    elif problems:
        raise ProblemsError(problems)
    elif not quiet:
        yield f"OK: {summary(place, found)}"


def summary(place: Path, found: Setup) -> str:
    """Return what was set up, in words."""
    configuration = found.configuration
    of_file = f"{place} sets {len(configuration.values)} options"
    return ", ".join(
        (
            of_file if place.exists() else f"no {place}",
            f"the kernel's command line {len(configuration.on_command_line)}",
            f"{len(found.hooks)} hooks would run",
        )
    )


def said(found: Readiness, as_json: bool, quiet: bool) -> Iterator[str]:
    """Yield what was found in the form that was asked for."""
    if as_json:
        yield Output(json.dumps(found.as_json(), indent=2))
    elif quiet:
        wrong = Readiness(tuple(each for each in found.findings if each.verdict != OK))
        yield from map(Output, wrong.lines() if wrong.findings else ())
    elif sys.stdout.isatty():
        yield Output(table.drawn(found))
    else:
        yield from map(Output, found.lines())


def this_machine() -> Machine:
    """Look at the machine that runs."""
    kernel = LinuxKernel()
    return Machine(
        kernel=kernel,
        setup=setup.read(),
        stack=scan(kernel),
        as_root=os.geteuid() == 0,
        init=callers.init_that_runs(),
    )


def findings(machine: Machine) -> Iterator[Finding]:
    """Look at all that there is to look at."""
    for name, look in CHECKS.items():
        try:
            yield from look(machine)
        except OSError as error:  # as where /proc is not mounted: what else there is to see goes on
            where = f" ({error.filename})" if error.filename else ""
            found = f"cannot look at all of it: {error.strerror}{where}"
            yield Finding(name, UNKNOWN, found, "see whether /proc and /sys are mounted")


def check_setup(machine: Machine) -> Iterator[Finding]:
    """Look at what is set up: the configuration, the kernel's command line, hooks."""
    unread = machine.unread
    yield from (hidden("configuration", str(problem)) for problem in unread)
    problems = [problem for problem in machine.setup.problems if problem not in unread]
    if problems or not unread:
        yield from _set_up(config.PLACE, machine.setup, problems)


def _set_up(place: Path, found: Setup, problems: list[Problem]) -> Iterator[Finding]:
    name = "configuration"
    yield from (Finding.of(name, problem) for problem in problems)
    if not problems:
        yield Finding(name, OK, summary(place, found))


Check = Callable[[Machine], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "configuration": check_setup,
    "tree": tree.look,
    "init": callers.look,
    "kernel": check_kernel.look,
    "memory": memory.look,
    "layers": layers.look,
}
"""Each looks at one side of the machine."""
