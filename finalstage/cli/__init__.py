"""The verbs for people. Exit status: 0 done, 1 refused or failed, 2 not understood."""

from __future__ import annotations

import argparse
import sys

from finalstage import __version__
from finalstage.cli import check_verb, install_verbs, stage_verb, unpack_verb
from finalstage.cli.errors import RefusalError
from finalstage.cli.problems import Problem, ProblemsError

VERBS = (stage_verb, unpack_verb, install_verbs, check_verb)
"""Each has a function `add_to`, which adds a parser whose default `run` is given the options, and
returns lines that say what was done, with problems that did not keep it from that. It raises
RefusalError where it does not do it, ProblemsError where it was to find them."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="finalstage",
        description="Closes every storage layer at shutdown, wipes the keys, goes down.",
    )
    found.add_argument("--version", action="version", version=f"finalstage {__version__}")
    verbs = found.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add_to(verbs)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        for line in options.run(options):
            print(f"finalstage: {line}", file=sys.stderr if isinstance(line, Problem) else None)
    except RefusalError as error:
        print(f"finalstage: {error}", file=sys.stderr)
        return 1
    except ProblemsError as error:
        print(*error.problems, sep="\n")
        return 1
    return 0
