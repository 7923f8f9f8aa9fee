"""The tables of the benchmark: each a list of rows, for people at a console and for the README."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from tests.bench import figures
from tests.bench.contestants import CONTESTANTS, FINALSTAGE_DIRECT, ORACLE
from tests.bench.figures import KIB, MEGABYTE, START, Goal
from tests.bench.results import Results
from tests.bench.stacks import TRIALS

Row = dict[str, str]
Table = list[Row]
GAP_TRIALS = ("main", "400 mounts")

WHY = {
    START: "the launcher enters the tree; the interpreter starts, and imports",
    "prepare": "what was asked for is read, memory is locked",
    "defuse": "the first scan",
    "start": "programs of the administrator's own are looked for; there are none",
    "kill": "every process is asked to end; there is none but one shell",
    "files": "key files in memory are looked for",
    "unblock": "devices that were left suspended are looked for",
    "hooks": "where it stands in for systemd-shutdown: programs that this runs",
    "close": "what the oracle does, in parallel; and scans that verify it",
    "lock": "keys of encrypted directories are looked for",
    "settle": "nothing is left to do",
    "free": "nothing is left to do",
    "seal": "nothing is left to do",
    "flush": "nothing is left to do",
    "closed": "programs of the administrator's own are looked for; there are none",
    "keys": "keyrings of all users are cleared",
    "scrub": "freed keys are waited for; where there was encryption, free memory is overwritten",
    "report": "what remains is looked for, and named",
    "keep": "a place to keep the report is looked for; there is none",
    "last": "programs of the administrator's own are looked for; there are none",
    "down": "sync(2), then reboot(2)",
}
"""What finalstage does in each phase that the oracle does not."""


def going_down(results: Results) -> Table:
    """Seconds from exec to power-off: a row a trial, a column a contestant."""
    return _by_trial(results, figures.seconds)


def first_lines(results: Results) -> Table:
    """Seconds from exec to the first line on the console."""
    return _by_trial(results, figures.first_line)


def _by_trial(results: Results, value: Callable[[Results, str, str], float | None]) -> Table:
    goings = results.get("goings", {})
    names = [each.name for each in CONTESTANTS if any(each.name in row for row in goings.values())]

    def cell(trial: str, name: str) -> str:
        found = value(results, trial, name)
        seldom = figures.rounds(results, trial, name) < max(map(len, goings[trial].values()))
        return "" if found is None else f"{found:.2f}{' *' if seldom else ''}"

    return [
        {"seconds": trial.name, **{name: cell(trial.name, name) for name in names}}
        for trial in TRIALS
        if trial.name in goings
    ]


def goals(results: Results) -> Table:
    """All figures that are bound by a goal."""
    return [_goal(each) for each in figures.goals(results)]


def _goal(goal: Goal) -> Row:
    return {
        "figure": goal.words,
        "measured": f"{goal.value:.2f} {goal.unit}" if goal.unit else f"{goal.value:.3f}",
        "at most": f"{goal.most:g} {goal.unit}".strip(),
        "": "reached" if goal.reached else "**not reached**",
    }


def gaps(results: Results) -> Table:
    """Phase by phase what finalstage takes, and at the end what the oracle does."""
    trials = [name for name in GAP_TRIALS if name in results.get("goings", {})]
    found = {trial: figures.phases(results, trial, FINALSTAGE_DIRECT.name) for trial in trials}
    names = list(dict.fromkeys(name for phases in found.values() for name in phases))
    if not names:
        return []

    def row(name: str, cells: Iterable[float | None], why: str) -> Row:
        texts = ("" if cell is None else f"{cell:.3f}" for cell in cells)
        return {"phase": name, **dict(zip(trials, texts, strict=True)), "what for": why}

    rows = [
        row(name, [found[trial].get(name) for trial in trials], WHY.get(name, "")) for name in names
    ]
    ours = [figures.seconds(results, trial, FINALSTAGE_DIRECT.name) for trial in trials]
    theirs = [figures.seconds(results, trial, ORACLE.name) for trial in trials]
    rows.append(row("**all**", ours, "median of the whole, not the sum of the medians above"))
    rows.append(row("**oracle**", theirs, "closes the same by heart, one after the other"))
    rows.append(row("**gap**", [figures.gap(results, trial) for trial in trials], ""))
    return rows


def widths(results: Results) -> Table:
    """Seconds of closing: a row for what is closed, a column for how many at once."""
    return [
        {"at once": what, **{many: f"{took:.2f}" for many, took in by_width.items()}}
        for what, by_width in results.get("widths", {}).items()
    ]


def starts(results: Results) -> Table:
    """Seconds from exec to the first line, beside the program that only prints."""
    return [
        {"guest": how, **{name: f"{median(times):.3f}" for name, times in by_name.items()}}
        for how, by_name in results.get("starts", {}).items()
    ]


def imports(results: Results, most: int = 12) -> Table:
    """The modules that took longest to import, and all others together."""
    found = sorted(results.get("imports", []), key=lambda each: -each["microseconds"])
    if not found:
        return []
    rows = [(each["module"], each["microseconds"]) for each in found[:most]]
    rest = found[most:]
    rows.append((f"{len(rest)} others", sum(each["microseconds"] for each in rest)))
    rows.append((f"all {len(found)}", sum(each["microseconds"] for each in found)))
    return [{"module": name, "ms": f"{time / 1000:.1f}"} for name, time in rows]


def planning(results: Results) -> Table:
    """Seconds and memory for machines of three sizes."""
    return [
        {
            "machine": machine,
            "layers": f"{cost['layers']:,}",
            "scan, s": f"{cost['scan']:.3f}",
            "plan, s": f"{cost['plan']:.3f}",
            "µs a layer": f"{(cost['scan'] + cost['plan']) / cost['layers'] * 1e6:.1f}",
            "MiB": f"{cost['mebibytes']:.1f}",
            "KiB a layer": f"{cost['mebibytes'] / cost['layers'] * 1024:.2f}",
        }
        for machine, costs in results.get("planning", {}).items()
        for cost in costs
    ]


def sizes(results: Results) -> Table:
    """How large things are."""
    return [
        {"what": name, "MB": f"{size / MEGABYTE:.1f}"}
        for name, size in results.get("sizes", {}).items()
    ]


def memory(results: Results) -> Table:
    """The most memory that the stage had, a row a trial."""
    peaks = {trial.name: figures.peak_kib(results, trial.name) for trial in TRIALS}
    return [
        {"trial": name, "MB": f"{peak * KIB / MEGABYTE:.1f}"}
        for name, peak in peaks.items()
        if peak
    ]


def calls(results: Results) -> Table:
    """System calls: a row a trial, a column a contestant."""
    return [
        {"system calls": trial, **{name: f"{each['total']:,}" for name, each in row.items()}}
        for trial, row in results.get("calls", {}).items()
    ]


def calls_by_phase(results: Results) -> Table:
    """System calls of finalstage, phase by phase."""
    counts = {
        trial: row[FINALSTAGE_DIRECT.name]["phases"]
        for trial, row in results.get("calls", {}).items()
        if FINALSTAGE_DIRECT.name in row
    }
    names = list(dict.fromkeys(name for phases in counts.values() for name in phases))
    return [
        {"phase": name, **{trial: f"{phases.get(name, 0):,}" for trial, phases in counts.items()}}
        for name in names
    ]
