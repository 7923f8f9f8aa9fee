"""How the command line is read: one line where it makes no sense, and examples in the help."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from finalstage.cli.errors import NOT_UNDERSTOOD, RefusalError

EXAMPLES = "examples:\n"
Example = tuple[str, str]
"""What is typed, without `finalstage`, and what for."""


class UsageError(RefusalError):
    """What was typed makes no sense."""

    status = NOT_UNDERSTOOD


class _Formatter(argparse.HelpFormatter):
    """Fills paragraphs, as argparse does, but leaves lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(EXAMPLES) else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError, and takes no half of an option for it: `--a` is not `--all`.

    The parsers of verbs are such, too.
    """

    def __init__(self, **arguments: Any) -> None:
        arguments.setdefault("formatter_class", _Formatter)
        super().__init__(allow_abbrev=False, **arguments)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, f"see {self.prog} --help")


def add_verb(
    verbs: Any,
    name: str,
    help: str,
    description: str,
    examples: Sequence[Example],
) -> argparse.ArgumentParser:
    """Add the parser of a verb to what add_subparsers() has returned, with examples in its help."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=help, description=description, epilog=_shown(examples)
    )
    return parser


def _shown(examples: Sequence[Example]) -> str:
    """Return examples as lines that can be pasted into a shell, what they are for as comments."""
    width = max(len(typed) for typed, _ in examples)
    lines = (f"  finalstage {typed:<{width}}  # {what}" for typed, what in examples)
    return EXAMPLES + "\n".join(lines)


def unknown(verb: str, known: Iterable[str]) -> UsageError:
    """Return the error about a verb that is none, which may be meant to be another one."""
    near = difflib.get_close_matches(verb, known, n=1)
    return UsageError(
        f"there is no verb {verb!r}", f"do you mean {near[0]}?" if near else "see finalstage --help"
    )
