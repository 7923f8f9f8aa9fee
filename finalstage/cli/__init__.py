"""The verbs for people. Their exit statuses stand in errors.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from importlib import import_module

from finalstage import __version__
from finalstage.cli import apart
from finalstage.cli.errors import DONE, FAILED, INTERRUPTED, NOT_UNDERSTOOD, RefusalError
from finalstage.cli.parsing import Parser, UsageError, unknown
from finalstage.cli.problems import ProblemsError
from finalstage.cli.voice import Voice, reason

VERBS = {
    "install": "install.verbs",
    "uninstall": "install.verbs",
    "stage": "staged.verb",
    "check": "check.verb",
    "report": "report.verb",
    "plan": "plan.verb",
    "close": "close.verb",
    "wipe-keys": "wipe_verb",
    "unpack": "staged.unpack_verb",
    "completion": "completion_verb",
}
"""The module of each verb. It has a function `add_to`, which adds a parser whose default `run` is
given the options, and returns lines that say what was done, with problems that did not keep it from
that, or Output. It raises RefusalError where it does not do it, ProblemsError where it was to find
them. One with the default `apart` may make calls that hang, and is run in a process that can be
left behind."""


def parser(wanted: Iterable[str] = VERBS) -> argparse.ArgumentParser:
    """Return the parser of the command line, which knows these verbs, and others of their modules:
    to import all takes longer than most verbs do."""
    found = Parser(
        prog="finalstage",
        description="Closes every storage layer at shutdown, wipes the keys, goes down.",
        epilog="`finalstage help VERB` says more of a verb, with examples. Manual pages:"
        " finalstage(8), finalstage.toml(5), finalstage-answers(7).",
    )
    found.add_argument("--version", action="version", version=f"finalstage {__version__}")
    verbs = found.add_subparsers(dest="verb", required=True, metavar="VERB")
    for module in dict.fromkeys(VERBS[verb] for verb in wanted):
        import_module(f"finalstage.cli.{module}").add_to(verbs)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; return its exit status."""
    voice = Voice()
    return _status(voice, lambda: _run(sys.argv[1:] if arguments is None else arguments, voice))


def _status(voice: Voice, act: Callable[[], int]) -> int:
    """Return the exit status that an act returns, or that belongs to what it raises, which is
    said."""
    try:
        status = act()
    except RefusalError as error:
        voice.refuse(str(error))
        status = error.status
    except ProblemsError as error:
        voice.list(error.problems)
        status = FAILED
    except OSError as error:
        voice.refuse(reason(error))
        status = FAILED
    except KeyboardInterrupt:
        voice.refuse("interrupted")
        status = INTERRUPTED
    return status if voice.all_was_said() else status or FAILED


def _run(arguments: list[str], voice: Voice) -> int:
    if not arguments:
        parser().print_help(sys.stderr)
        return NOT_UNDERSTOOD
    if arguments[0] == "help":
        arguments = [*arguments[1:2], "--help"]
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if verb and verb not in VERBS:
        raise unknown(verb, VERBS)
    wanted = [verb] if verb else [] if arguments[0] == "--version" else VERBS
    try:
        options, rest = parser(wanted).parse_known_args(arguments)
    except SystemExit as done:  # after --help and --version
        return int(done.code or DONE)
    except OSError as error:  # help that cannot be written
        voice.fall_silent(error)
        return FAILED
    if rest:
        raise UsageError(f"not understood: {' '.join(rest)}", f"see finalstage help {verb}")
    if getattr(options, "apart", False):
        return apart.call(lambda: _status(voice, lambda: _carry_out(options, voice)))
    return _carry_out(options, voice)


def _carry_out(options: argparse.Namespace, voice: Voice) -> int:
    for line in options.run(options):
        voice.say(line)
    return DONE
