"""All that was measured, as tables for a console, as tables and pictures for the README."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import figures, plot, tables, timeline
from tests.bench.results import Results
from tests.bench.tables import Table
from tests.vm.cache import PROJECT
from tests.vm.table import markdown as table_as_markdown
from tests.vm.table import plain as table_as_plain

PICTURES = PROJECT / "tests" / "bench"
BARS = "contestants.svg"
TIMELINES = {"100 mounts": "timeline-100-mounts.svg", "8 slow disks": "timeline-slow-disks.svg"}
WORDS = (
    *("seconds", "figure", "", "phase", "what for", "guest", "module", "machine", "what", "trial"),
    "system calls",
)
"""Columns that hold words, not numbers."""


@dataclass(frozen=True)
class Section:
    """A heading, what is to be said, a table, and pictures."""

    heading: str
    note: str
    table: Table
    pictures: tuple[str, ...] = ()


def sections(results: Results) -> list[Section]:
    """All of it; only those for which something was measured."""
    every = (
        Section(
            "From exec to power-off",
            "Medians. A star marks what was measured fewer times than others, since it takes so"
            " long. The times of one cell differ from their median by up to"
            f" {figures.spread(results):.0%}.",
            tables.going_down(results),
            (BARS,) if "goings" in results else (),
        ),
        Section("From exec to the first line", "", tables.first_lines(results)),
        Section("What was to be reached", "", tables.goals(results)),
        Section(
            "Where the time goes, beside the oracle",
            "finalstage on the direct path, seconds a phase.",
            tables.gaps(results),
        ),
        Section(
            "One machine going down",
            "",
            [],
            tuple(TIMELINES[trial] for trial in TIMELINES if trial in results.get("timelines", {})),
        ),
        Section(
            "Start",
            "Seconds from exec to the first line, beside a frozen program that only prints. Warm:"
            " it ran before in the same guest.",
            tables.starts(results),
        ),
        Section(
            "What the stage imports",
            "By `-X importtime`, in a warm guest.",
            tables.imports(results),
        ),
        Section("Scanning and planning, natively", "", tables.planning(results)),
        Section("Sizes", "Of a tree: what it takes in a tmpfs.", tables.sizes(results)),
        Section("Peak memory", "Of the stage, by VmHWM.", tables.memory(results)),
        Section("System calls", "Of all processes and threads.", tables.calls(results)),
        Section("System calls of finalstage by phase", "", tables.calls_by_phase(results)),
    )
    return [each for each in every if each.table or each.pictures]


def draw(results: Results) -> None:
    """Write the pictures, as far as there is something to draw."""
    if "goings" in results:
        (PICTURES / BARS).write_text(plot.draw(results))
    for trial, name in TIMELINES.items():
        if found := results.get("timelines", {}).get(trial):
            title = f"{trial}: finalstage, direct path; a bar is the closing of one layer"
            (PICTURES / name).write_text(timeline.draw(found, title))


def plain(results: Results) -> str:
    """For a console."""
    parts = []
    for section in sections(results):
        if section.table:
            parts += [section.heading, section.note, table_as_plain(section.table, WORDS), ""]
    return "\n".join(part for part in parts if part or not parts)


def markdown(results: Results) -> str:
    """For the README."""
    where = results.get("where", {})
    lines = [
        f"Measured on {where.get('machine', '?')} ({where.get('qemu', '?')}), Linux"
        f" {where.get('kernel', '?')}, Python {where.get('python', '?')}."
        f" It took {sum(results.get('minutes', {}).values()):.0f} minutes.",
        "",
    ]
    for section in sections(results):
        lines += [f"**{section.heading}.** {section.note}".strip(), ""]
        for picture in section.pictures:
            lines += [f"![{section.heading}](tests/bench/{picture})", ""]
        if section.table:
            lines += [table_as_markdown(section.table)]
    return "\n".join(lines)
