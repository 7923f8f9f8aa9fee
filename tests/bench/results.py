"""What was measured, kept as JSON in .build/bench, so that each part can be measured by itself."""

from __future__ import annotations

import json
from typing import Any, TypedDict

from tests.vm.cache import PROJECT

FOLDER = PROJECT / ".build" / "bench"
FILE = FOLDER / "results.json"


class Going(TypedDict):
    """One machine going down: seconds until power went and until the first line, and of finalstage
    the seconds of each phase and the most memory it had."""

    seconds: float
    first_line: float
    phases: dict[str, float]
    peak_kib: int


class Timeline(TypedDict):
    """One machine going down by finalstage: what it noted, and the seconds from exec until its own
    clock began, and until power went, which it cannot know."""

    offset: float
    seconds: float
    records: list[dict[str, Any]]


class Imported(TypedDict):
    """What a module took by itself when it was imported."""

    module: str
    microseconds: int


class Planned(TypedDict):
    """Seconds and MiB that scanning and planning took."""

    layers: int
    scan: float
    plan: float
    mebibytes: float


class Counted(TypedDict):
    """System calls."""

    total: int
    phases: dict[str, int]


class Results(TypedDict, total=False):
    """All of it; what was not measured is missing. Goings are by trial and contestant, starts by
    how warm the guest was and what was started, costs by machine, calls by trial and contestant.
    `widths` are seconds of closing by what is closed and how many at once, `sizes` are bytes,
    `timelines` are by trial.
    """

    where: dict[str, str]
    goings: dict[str, dict[str, list[Going]]]
    timelines: dict[str, Timeline]
    starts: dict[str, dict[str, list[float]]]
    imports: list[Imported]
    planning: dict[str, list[Planned]]
    sizes: dict[str, int]
    widths: dict[str, dict[str, float]]
    calls: dict[str, dict[str, Counted]]
    minutes: dict[str, float]


def load() -> Results:
    """What was measured so far."""
    if not FILE.exists():
        return {}
    found: Results = json.loads(FILE.read_text())
    return found


def store(results: Results) -> None:
    """Keep it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    FILE.write_text(f"{json.dumps(results, indent=1)}\n")
