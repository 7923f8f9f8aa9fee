"""The verbs for people. Their exit statuses stand in errors.py."""

from __future__ import annotations

import argparse
import os
import sys

from finalstage import __version__
from finalstage.cli import check_verb, install_verbs, plan_verb, stage_verb, unpack_verb
from finalstage.cli.errors import DONE, FAILED, INTERRUPTED, RefusalError
from finalstage.cli.output import Output
from finalstage.cli.problems import Problem, ProblemsError

VERBS = (stage_verb, unpack_verb, install_verbs, check_verb, plan_verb)
"""Each has a function `add_to`, which adds a parser whose default `run` is given the options, and
returns lines that say what was done, with problems that did not keep it from that, or Output. It
raises RefusalError where it does not do it, ProblemsError where it was to find them."""


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
            _print(line)
        sys.stdout.flush()
    except RefusalError as error:
        print(f"finalstage: {error}", file=sys.stderr)
        return error.status
    except ProblemsError as error:
        print(*error.problems, sep="\n")
        return FAILED
    except KeyboardInterrupt:
        print("finalstage: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever has read enough of it; the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return DONE


def _print(line: str | Problem) -> None:
    if isinstance(line, Output):
        print(line)
    else:
        print(f"finalstage: {line}", file=sys.stderr if isinstance(line, Problem) else None)
