"""What a verb says: on which stream, in which colour, and what if nobody can read it.

A verb that closes things must not stop half way because its words cannot be written: `head` has
gone, the disk is full, nothing is open. So it goes on, and the status says it in the end.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from finalstage.cli.output import Output, Trouble
from finalstage.cli.problems import Problem

NAME = "finalstage:"
ERROR, PROBLEM = "bold red", "bold yellow"
"""In rich's words."""


class Voice:
    """Says things on standard output and standard error."""

    def __init__(self) -> None:
        self._unsaid: OSError | None = None
        for stream in (sys.stdout, sys.stderr):
            # Names may have any bytes; an encoding that cannot show them must not end a verb.
            if getattr(stream, "errors", "") == "strict":
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        if sys.stdout is None:
            self._unsaid = OSError("it is closed")

    def say(self, words: str | Problem) -> None:
        """Say what was done; or trouble, on standard error; or Output, as it is."""
        if isinstance(words, Problem | Trouble):
            self._complain(str(words), PROBLEM)
        else:
            self._print(words if isinstance(words, Output) else f"{NAME} {one_line(words)}")

    def list(self, problems: tuple[Problem, ...]) -> None:
        """Say problems that were asked for."""
        for problem in problems:
            self._print(one_line(str(problem)))

    def refuse(self, words: str) -> None:
        """Say in one line why something is not done."""
        self._complain(words, ERROR)

    def all_was_said(self) -> bool:
        """Write out what was printed; say what is wrong where that cannot be, once and for all."""
        if sys.stdout is not None and self._unsaid is None:
            try:
                sys.stdout.flush()
            except OSError as error:
                self.fall_silent(error)
        if self._unsaid is None:
            return True
        if not isinstance(self._unsaid, BrokenPipeError):  # else somebody has read enough of it
            self.refuse(f"cannot write to standard output: {reason(self._unsaid)}")
        return False

    def fall_silent(self, error: OSError) -> None:
        """Print nothing more: standard output cannot be written to."""
        self._unsaid = error
        # What it still holds is tried again when the interpreter ends, which would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _print(self, words: str) -> None:
        if self._unsaid is None:
            try:
                print(words, flush=True)
            except OSError as error:
                self.fall_silent(error)

    def _complain(self, words: str, style: str) -> None:
        if sys.stderr is None:
            return
        try:
            print(_name(sys.stderr, style), one_line(words), file=sys.stderr)
        except OSError:
            # There is nowhere left to say it.
            pass


def _name(stream: TextIO, style: str) -> str:
    """Return what stands before each message, in colour if a terminal has it."""
    if not stream.isatty():
        return NAME
    # Importing rich takes longer than most verbs, and only terminals need it.
    from finalstage.cli.terminal import console, painter

    return painter(console(stream))(NAME, style)


def reason(error: OSError) -> str:
    """Return why something failed, as people say it, with the path if that is known."""
    what = error.strerror or str(error)
    name = error.filename
    return f"{os.fsdecode(name)}: {what}" if isinstance(name, str | bytes) else what


def one_line(text: str) -> str:
    """Return text as one line that does nothing to a terminal: names may have any bytes in them."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(letter: str) -> str:
    """Return a letter as an escape. Bytes that are no UTF-8 are lone surrogates: PEP 383."""
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()
