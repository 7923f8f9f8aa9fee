"""What was kept of a shutdown, read back: from what the stage has written, or from a kernel log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finalstage.report import MAGIC, Report, checksum

MOST = 1 << 20
"""Bytes of one report, far more than the stage ever writes."""

RECORD = re.compile(r"finalstage: (\{.*)")
PIECE = re.compile(r"finalstage: kept (\d+)/(\d+) (\d+) (\d+) (.*)")
SUMMARY = re.compile(r"closed (\d+), remaining (\d+), keys left (\d+), ")


class NoReportError(Exception):
    """There is none, or one that cannot be read: why."""


@dataclass(frozen=True)
class Phase:
    """A phase, from when to when, in seconds from the start."""

    name: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.begin


@dataclass(frozen=True)
class Step:
    """What was done to one layer: `close` or `settle`. `error` is "" if it went well."""

    layer: str
    kind: str
    event: str
    phase: str
    begin: float
    end: float
    error: str

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.begin


@dataclass(frozen=True)
class Words:
    """A line that was said."""

    at: float
    phase: str
    is_problem: bool
    words: str


@dataclass(frozen=True)
class Shutdown:
    """All of it; None where it did not come to that. `steps` and `words` are in their order."""

    version: str
    verb: str
    when: datetime
    seconds: float | None
    closed: int | None
    remaining: int | None
    keys_left: int | None
    phases: tuple[Phase, ...]
    steps: tuple[Step, ...]
    words: tuple[Words, ...]
    steps_left_out: int
    words_left_out: int

    @property
    def problems(self) -> tuple[Words, ...]:
        """The lines that tell of problems."""
        return tuple(line for line in self.words if line.is_problem)

    @property
    def is_clean(self) -> bool:
        """Whether all was closed, and no key left."""
        return self.remaining == 0 and self.keys_left == 0

    @property
    def end(self) -> float:
        """When the last thing happened that is known, in seconds from the start."""
        return max(
            self.seconds or 0.0,
            *(step.end for step in self.steps),
            *(phase.begin for phase in self.phases),
            0.0,
        )


def read(data: bytes) -> Shutdown:
    """Read what the stage has written, or the log of a kernel. Raises NoReportError."""
    if MAGIC in data:
        return written(data[data.rindex(MAGIC) :])
    return from_log(data.decode("utf-8", "replace").splitlines())


def written(data: bytes) -> Shutdown:
    """Read what begins with MAGIC. Raises NoReportError."""
    head, _, rest = data[len(MAGIC) :].partition(b"\n")
    match = re.fullmatch(rb"(\d{1,9}) (\d{1,12})", head)
    if not match:
        raise NoReportError("it is damaged: its second line is none")
    length, check = int(match[1]), int(match[2])
    body = rest[:length]
    if len(body) < length:
        raise NoReportError(f"it is cut off: {len(body)} bytes of {length} are there")
    if checksum(body) != check:
        raise NoReportError("it is damaged: its checksum is wrong")
    return _shutdown(body)


def from_log(lines: Iterable[str]) -> Shutdown:
    """Read the last shutdown in the lines of a kernel's log. Raises NoReportError."""
    pieces: dict[tuple[int, int, int], dict[int, str]] = {}
    report = Report()
    began = False
    for line in lines:
        if match := PIECE.search(line):
            number, count, length, check = map(int, match.group(1, 2, 3, 4))
            pieces.setdefault((count, length, check), {})[number] = match[5]
        elif match := RECORD.search(line):
            record = _record(match[1])
            if record.get("event") == "start":
                phases = report.phases if not began else report.phases[-1:]
                report, began = Report(), True
                report.phases = phases
            _take(report, record)
    for (count, length, check), found in reversed(pieces.items()):
        if len(found) == count:
            body = "".join(found[number] for number in sorted(found))
            return written(MAGIC + f"{length} {check}\n{body}".encode())
    if not began:
        raise NoReportError("there is no report in it")
    return written(report.written(MOST))


def _record(text: str) -> dict[str, Any]:
    """Return a record; of one that was too long for the log, what it says in words."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        cut = re.match(r'\{"at": ([0-9.]{1,20}), "event": "summary", ', text)
        if cut and (match := SUMMARY.search(text)):
            closed, remaining, keys = map(int, match.groups())
            return {
                "at": float(cut[1]),
                "event": "summary",
                "gone": closed,
                "remaining": [""] * min(remaining, MOST),
                "keys_left": keys,
            }
        return {}
    return found if isinstance(found, dict) else {}


def _take(report: Report, record: dict[str, Any]) -> None:
    """Take in a record; one that is not the stage's, or an older stage's, is left out."""
    facts = {name: value for name, value in record.items() if name not in ("at", "event")}
    try:
        report.take(float(record["at"]), str(record["event"]), facts)
    except (KeyError, TypeError, ValueError):
        return


def _shutdown(body: bytes) -> Shutdown:
    """Return what the JSON says. Raises NoReportError if it is not of this form."""
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
        if found["schema"] != 1:
            raise NoReportError(f"a finalstage of another time wrote it: {found['schema']!r:.20}")
        phases = _phases(found["phases"], found.get("seconds"))
        return Shutdown(
            version=_clean(found["version"]),
            verb=_clean(found.get("verb", "")),
            when=datetime.fromtimestamp(int(found.get("when", 0))).astimezone(),
            seconds=_number(found, "seconds"),
            closed=_whole(found, "closed"),
            remaining=_whole(found, "remaining"),
            keys_left=_whole(found, "keys_left"),
            phases=phases,
            steps=_steps(found["layers"], phases),
            words=_words(found["said"], phases),
            steps_left_out=int(found["layers_left_out"]),
            words_left_out=int(found["said_left_out"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError) as error:
        raise NoReportError("it is damaged: it is not of the form that is read here") from error


def _refuse_constant(word: str) -> None:
    """JSON has no such numbers, though Python reads them."""
    raise ValueError(word)


def _phases(found: Any, seconds: Any) -> tuple[Phase, ...]:
    begins = sorted((float(at), _clean(name)) for name, at in found)
    last = max([float(seconds or 0.0), *(at for at, _ in begins)])
    ends = [at for at, _ in begins[1:]] + [last]  # one too many, where there is no phase
    return tuple(Phase(name, at, end) for (at, name), end in zip(begins, ends, strict=False))


def _steps(found: Any, phases: tuple[Phase, ...]) -> tuple[Step, ...]:
    steps = [
        Step(
            *(_clean(layer), _clean(kind), _clean(event), _phase_at(phases, float(at))),
            *(max(0.0, float(at) - float(seconds)), float(at), _clean(error or "")),
        )
        for layer, kind, event, at, seconds, error in found
    ]
    return tuple(sorted(steps, key=lambda step: (step.begin, step.end, step.layer)))


def _words(found: Any, phases: tuple[Phase, ...]) -> tuple[Words, ...]:
    lines = [
        Words(float(at), _phase_at(phases, float(at)), bool(bad), _clean(words))
        for at, bad, words in found
    ]
    return tuple(sorted(lines, key=lambda line: line.at))


def _phase_at(phases: tuple[Phase, ...], at: float) -> str:
    """Return the phase at a time: what ends with one belongs to that one."""
    return next((each.name for each in reversed(phases) if each.begin < at), "")


def _clean(text: Any) -> str:
    """Return text without what a terminal would obey."""
    if not isinstance(text, str):
        raise TypeError(f"{text!r:.40} is no text")
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _number(found: dict[str, Any], name: str) -> float | None:
    value = found.get(name)
    return None if value is None else float(value)


def _whole(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    return None if value is None else int(value)
