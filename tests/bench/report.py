"""All that was measured, as tables for a console, as tables and pictures for the README."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import figures, plot, tables, timeline
from tests.bench.results import Results, Timeline
from tests.bench.tables import Table
from tests.vm.cache import PROJECT
from tests.vm.table import markdown as table_as_markdown
from tests.vm.table import plain as table_as_plain

PICTURES = PROJECT / "tests" / "bench"
BARS = "contestants.svg"
TIMELINES = {"100 mounts": "timeline-100-mounts.svg", "8 slow disks": "timeline-slow-disks.svg"}
WORDS = (
    *("seconds", "figure", "", "phase", "what for", "guest", "module", "machine", "what", "trial"),
    *("system calls", "at once"),
)
"""Columns that hold words, not numbers."""


@dataclass(frozen=True)
class Section:
    """A heading, what is to be said, a table, and pictures. `aside` are those which the README
    shows only to who asks for them."""

    heading: str
    note: str
    table: Table
    pictures: tuple[str, ...] = ()
    aside: bool = True


def sections(results: Results) -> list[Section]:
    """All of it; only those for which something was measured."""
    drawn = tuple(name for trial, name in TIMELINES.items() if trial in _timelines(results))
    every = (
        Section(
            "From exec to power-off, in seconds",
            "Medians. A star marks what was measured fewer times than others, since it takes so"
            " long. The times of one cell differ from their median by up to"
            f" {figures.spread(results):.0%}.",
            tables.going_down(results),
            (BARS,) if "goings" in results else (),
            aside=False,
        ),
        Section(
            "What was to be reached",
            "*hello* is a program that only prints, frozen as PyInstaller does it by default, with"
            " the stage's Python and bootloader. *hello, frozen like the stage* has all that was"
            " done for the stage besides, and imports next to nothing. What finalstage takes beyond"
            " that one is importing its own modules, and the launcher, which enters the tree first:"
            " below, *stage alone* is without the launcher.",
            tables.goals(results),
            aside=False,
        ),
        Section(
            "Where the time goes, beside the oracle",
            "finalstage on the direct path, seconds a phase.",
            tables.gaps(results),
            aside=False,
        ),
        Section("How layers are closed side by side", "", [], drawn, aside=False),
        Section(
            "How many at once",
            "Seconds of closing, the better of two rounds. 32 is what finalstage does by itself.",
            tables.widths(results),
        ),
        Section("From exec to the first line, in seconds", "", tables.first_lines(results)),
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
        Section(
            "Scanning and planning",
            "On simulated machines, natively, the best of some rounds.",
            tables.planning(results),
        ),
        Section("Sizes", "Of a tree: what it takes in a tmpfs.", tables.sizes(results)),
        Section("Peak memory", "Of the stage, by VmHWM.", tables.memory(results)),
        Section("System calls", "Of all processes and threads.", tables.calls(results)),
        Section("System calls of finalstage by phase", "", tables.calls_by_phase(results)),
    )
    return [each for each in every if each.table or each.pictures]


def _timelines(results: Results) -> dict[str, Timeline]:
    return results.get("timelines", {})


def draw(results: Results) -> None:
    """Write the pictures, as far as there is something to draw."""
    if "goings" in results:
        (PICTURES / BARS).write_text(plot.draw(results))
    for trial, name in TIMELINES.items():
        if found := _timelines(results).get(trial):
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
    every = sections(results)
    for section in every:
        if not section.aside:
            lines += _shown(section)
    lines += ["<details><summary>Width, start, planning, memory, sizes, system calls</summary>", ""]
    for section in every:
        if section.aside:
            lines += _shown(section)
    return "\n".join((*lines, "</details>", ""))


def _shown(section: Section) -> list[str]:
    lines = [f"**{section.heading}.** {section.note}".strip(), ""]
    for picture in section.pictures:
        lines += [f"![{section.heading}](tests/bench/{picture})", ""]
    return [*lines, table_as_markdown(section.table)] if section.table else lines
