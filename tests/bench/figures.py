"""What follows from what was measured: medians, phases, ratios, and whether a goal is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.contestants import DRACUT, FINALSTAGE_DIRECT, FINALSTAGE_RETURN, ORACLE
from tests.bench.results import Going, Results
from tests.bench.start import BARE_HELLO, FINALSTAGE, HELLO

KIB, MEGABYTE = 1024, 1_000_000
START = "entry"
"""The phase before the stage's first: the launcher, the interpreter, and what is imported."""


@dataclass(frozen=True)
class Goal:
    """A figure, and the most that it may be."""

    words: str
    value: float
    most: float
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether it is no more than that."""
        return self.value <= self.most


def seconds(results: Results, trial: str, contestant: str) -> float | None:
    """The median of the seconds until power went, if it was measured."""
    return middle([each["seconds"] for each in _goings(results, trial, contestant)])


def first_line(results: Results, trial: str, contestant: str) -> float | None:
    """The median of the seconds until the first line."""
    return middle([each["first_line"] for each in _goings(results, trial, contestant)])


def phases(results: Results, trial: str, contestant: str) -> dict[str, float]:
    """The median of the seconds of each phase, in their order."""
    goings = [each for each in _goings(results, trial, contestant) if each["phases"]]
    if not goings:
        return {}
    return {
        name: median(each["phases"].get(name, 0.0) for each in goings)
        for name in goings[0]["phases"]
    }


def rounds(results: Results, trial: str, contestant: str) -> int:
    """How many times it was measured."""
    return len(_goings(results, trial, contestant))


def spread(results: Results) -> float:
    """The most by which one of the times of a cell is away from its median, as a share of that."""
    shares = [0.0]
    for contestants in results.get("goings", {}).values():
        for goings in contestants.values():
            times = [each["seconds"] for each in goings]
            shares += [abs(time / median(times) - 1) for time in times]
    return max(shares)


def _goings(results: Results, trial: str, contestant: str) -> list[Going]:
    return results.get("goings", {}).get(trial, {}).get(contestant, [])


def middle(values: Sequence[float]) -> float | None:
    """The median, if there is any value."""
    return median(values) if values else None


def spans(records: Sequence[dict[str, Any]], offset: float, seconds: float) -> dict[str, float]:
    """How long each phase took, by the records of a stage that was executed directly.

    `offset` is when its own clock began, and `seconds` when power went: measured from outside, from
    exec.
    """
    begins = [(str(each["phase"]), float(each["at"])) for each in records if _is_phase(each)]
    if not begins:
        return {}
    ends = [at for _, at in begins[1:]] + [seconds - offset]
    found = {START: offset + begins[0][1]}
    for (name, at), end in zip(begins, ends, strict=True):
        found[name] = found.get(name, 0.0) + end - at
    return found


def _is_phase(record: dict[str, Any]) -> bool:
    return str(record["event"]) == "phase"


def goals(results: Results) -> list[Goal]:
    """All figures that are bound by a goal, and were measured."""
    return [*_ratios(results), *_planning(results), *_start(results), *_sizes(results)]


def _ratios(results: Results) -> list[Goal]:
    direct, back, dracut = FINALSTAGE_DIRECT.name, FINALSTAGE_RETURN.name, DRACUT.name
    wanted = (
        ("main", direct, "main", dracut, 0.75),
        ("main", back, "main", dracut, 1.1),
        ("100 mounts", direct, "100 mounts", dracut, 1 / 5),
        ("400 mounts", direct, "400 mounts", dracut, 1 / 10),
        ("1000 mounts", direct, "400 mounts", direct, 1000 / 400),
        ("8 slow disks", direct, "1 slow disk", direct, 1.25),
    )
    found = []
    for trial, contestant, other_trial, other, most in wanted:
        value = seconds(results, trial, contestant)
        base = seconds(results, other_trial, other)
        if value is not None and base:
            beside = other if trial == other_trial else other_trial
            found.append(Goal(f"{trial}: {contestant} / {beside}", value / base, most))
    return found


def _planning(results: Results) -> list[Goal]:
    found = []
    for machine, costs in results.get("planning", {}).items():
        small, large = costs[0], costs[-1]
        took = [(each["scan"] + each["plan"]) for each in (small, large)]
        grown = (took[1] / large["layers"]) / (took[0] / small["layers"])
        size = f"{large['layers']:,} layers"
        found.append(Goal(f"scan and plan, {machine}, {size}", took[1], 3, "s"))
        words = f"time a layer, {machine}, {size} / {small['layers']:,}"
        found.append(Goal(words, grown, 2))
    return found


def _start(results: Results) -> list[Goal]:
    found = []
    for how, starts in results.get("starts", {}).items():
        ours = middle(starts.get(FINALSTAGE, []))
        for name in (HELLO, BARE_HELLO):
            hello = middle(starts.get(name, []))
            if ours is not None and hello:
                words = f"exec to first line, {how}: {FINALSTAGE} / {name}"
                found.append(Goal(words, ours / hello, 1.3))
    return found


def _sizes(results: Results) -> list[Goal]:
    sizes = results.get("sizes", {})
    wanted = (("finalstage's tree", 10.0), ("as cpio.zst", 3.5))
    found = [
        Goal(name, sizes[name] / MEGABYTE, most, "MB") for name, most in wanted if name in sizes
    ]
    if peak := peak_kib(results, "400 mounts"):
        value = peak * KIB / MEGABYTE
        found.append(Goal("peak memory, 400 mounts on 600 devices", value, 20, "MB"))
    return found


def peak_kib(results: Results, trial: str) -> int:
    """The most memory that the stage ever had; 0 if it was not said."""
    goings = _goings(results, trial, FINALSTAGE_DIRECT.name)
    return max((each["peak_kib"] for each in goings), default=0)


def gap(results: Results, trial: str) -> float | None:
    """Seconds that finalstage takes longer than the oracle."""
    ours = seconds(results, trial, FINALSTAGE_DIRECT.name)
    theirs = seconds(results, trial, ORACLE.name)
    return ours - theirs if ours is not None and theirs is not None else None
