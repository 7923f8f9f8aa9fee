"""What `finalstage check` finds: values, how they are ordered, and what they amount to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finalstage import __version__
from finalstage.cli.problems import Problem, printable
from finalstage.cli.setup import Setup
from finalstage.cli.sizes import counted
from finalstage.kernel import Kernel
from finalstage.stack import Stack

OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "unknown"

BY_WEIGHT = (PROBLEM, WARNING, UNKNOWN, OK)

DENIED = os.strerror(errno.EACCES).lower()
ROOT_SEES_MORE = "root sees more: use sudo"

MOST_NAMED = 3

SCHEMA = "check.schema.json"
"""Says what the fields of `as_json` are: in finalstage/schemas."""


@dataclass(frozen=True)
class Machine:
    """What is looked at, and whether as root, who sees all of it. `init` is the name of the overlay
    for the init that runs, "" if it is unknown."""

    kernel: Kernel
    setup: Setup
    stack: Stack
    as_root: bool
    init: str

    @property
    def unread(self) -> list[Problem]:
        """What was set up that only root may read, for who is not root."""
        return [] if self.as_root else [x for x in self.setup.problems if DENIED in x.what]


@dataclass(frozen=True)
class Finding:
    """What was found where something was looked at, and what to do about it. `place` and `line` are
    those of something that a person wrote."""

    name: str
    verdict: str
    found: str
    remedy: str = ""
    place: str = ""
    line: int = 0

    @classmethod
    def of(cls, name: str, problem: Problem) -> Finding:
        """Return a problem with what a person wrote as a finding."""
        return cls(name, PROBLEM, problem.what, problem.remedy, problem.place, problem.line)

    @property
    def words(self) -> str:
        """What was found, with its place, on one line."""
        where = f"{self.place}:{self.line}" if self.line else self.place
        return printable(f"{where}: {self.found}" if where else self.found)

    def __str__(self) -> str:
        said = self.words if self.place else f"{self.verdict}: {self.name}: {self.words}"
        return f"{said}; {printable(self.remedy)}" if self.remedy else said


def hidden(name: str, what: str) -> Finding:
    """Return the finding that only root could see it."""
    return Finding(name, UNKNOWN, what, ROOT_SEES_MORE)


def some(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Name a few of many."""
    more = len(names) - most
    return "; ".join(names[:most]) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class Readiness:
    """All findings, the weightiest first."""

    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Readiness:
        """Put findings into order."""
        return cls(tuple(sorted(findings, key=lambda each: BY_WEIGHT.index(each.verdict))))

    def count(self, verdict: str) -> int:
        """Return how many findings have a verdict."""
        return sum(each.verdict == verdict for each in self.findings)

    @property
    def is_ready(self) -> bool:
        """Whether nothing keeps finalstage from doing its work at the next shutdown."""
        return not self.count(PROBLEM)

    @property
    def verdict(self) -> str:
        """What it amounts to, in words."""
        counts = {each: self.count(each) for each in BY_WEIGHT}
        warnings = counted(counts[WARNING], "warning") if counts[WARNING] else ""
        unseen = f"{counts[UNKNOWN]} unknown" if counts[UNKNOWN] else ""
        if self.is_ready:
            said = [f"with {warnings}"] if warnings else []
            return ", ".join(["ready", *said, *([unseen] if unseen else [])])
        problems = counted(counts[PROBLEM], "problem")
        return "not ready: " + ", ".join(filter(None, (problems, warnings, unseen)))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values: SCHEMA."""
        return {
            "version": __version__,
            "ready": self.is_ready,
            "verdict": self.verdict,
            "counts": {each: self.count(each) for each in BY_WEIGHT},
            "findings": [
                {
                    "name": each.name,
                    "verdict": each.verdict,
                    "found": each.found,
                    "remedy": each.remedy,
                    "place": each.place or None,
                    "line": each.line or None,
                }
                for each in self.findings
            ],
        }

    def lines(self) -> Iterator[str]:
        """Yield a line for each finding, for programs that read lines, and the verdict."""
        yield from map(str, self.findings)
        yield f"finalstage: {self.verdict}"
