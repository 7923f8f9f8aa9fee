"""What is wrong with something that a person wrote, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, at a line of a file, or with it as a whole where that is 0."""

    place: str
    line: int
    what: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.place}:{self.line}" if self.line else self.place
        return printable(f"{where}: {self.what}; {self.remedy}")


def printable(text: str) -> str:
    """Return text on one line: control characters are escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class WrongError(Exception):
    """Something cannot be used: what is wrong with it, and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy

    def at(self, place: Path | str, line: int = 0) -> Problem:
        """Return it as a problem of a place."""
        return Problem(str(place), line, str(self), self.remedy)


class ProblemsError(Exception):
    """What was looked at has problems."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = tuple(problems)
