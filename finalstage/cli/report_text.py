"""A shutdown as people and programs read it: as text, as JSON, as a timeline."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timedelta

from finalstage.cli import timeline
from finalstage.cli.shutdown import Shutdown, Step

SHOWN = 20
"""Layers that the text has, the slowest."""

BAR = 30


def as_json(shutdown: Shutdown, place: str) -> str:
    """Return it by finalstage/cli/report.schema.json."""
    return json.dumps(
        {
            "schema": 1,
            "place": place,
            "version": shutdown.version,
            "verb": shutdown.verb,
            "started": shutdown.when.isoformat(),
            "seconds": shutdown.seconds,
            "closed": shutdown.closed,
            "remaining": shutdown.remaining,
            "keys_left": shutdown.keys_left,
            "phases": [
                {"name": each.name, "begin": each.begin, "end": each.end}
                for each in shutdown.phases
            ],
            "layers": [
                {
                    "layer": each.layer,
                    "kind": each.kind,
                    "event": each.event,
                    "phase": each.phase,
                    "begin": round(each.begin, 4),
                    "end": each.end,
                    "error": each.error or None,
                }
                for each in shutdown.steps
            ],
            "lines": [
                {
                    "at": each.at,
                    "phase": each.phase,
                    "problem": each.is_problem,
                    "words": each.words,
                }
                for each in shutdown.words
            ],
            "layers_left_out": shutdown.steps_left_out,
            "lines_left_out": shutdown.words_left_out,
        },
        indent=2,
    )


def as_svg(shutdown: Shutdown) -> str:
    """Return it as a picture."""
    bars = [
        timeline.Bar(each.layer, each.kind, each.begin, each.end, each.error)
        for each in shutdown.steps
    ]
    bands = [timeline.Band(each.name, each.begin, each.end) for each in shutdown.phases]
    notes = [_counts(shutdown), *_left_out(shutdown)]
    title = f"{shutdown.verb}, {shutdown.when:%Y-%m-%d %H:%M:%S}"
    whole = timeline.Timeline(
        title, shutdown.end, bars, bands, "seconds since the stage began", "; ".join(notes)
    )
    return timeline.draw(whole)


def as_text(shutdown: Shutdown, place: str) -> str:
    """Return it for a terminal, problems first; in colours if this is one."""
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    def table(*columns: str) -> Table:
        found = Table(box=None, pad_edge=False, header_style="bold")
        for name in columns:
            right = name in ("at", "seconds")
            found.add_column(name, justify="right" if right else "left", no_wrap=right)
        return found

    parts: list[Text | Table] = [
        Text(f"{shutdown.verb} on {shutdown.when:%Y-%m-%d at %H:%M:%S}{_before(shutdown.when)}"),
        Text(f"from: {place}, by finalstage {shutdown.version}", style="dim"),
        Text(_counts(shutdown), style="bold green" if shutdown.is_clean else "bold red"),
    ]
    for bad, heading, style in ((True, "problems", "red"), (False, "notes", "")):
        lines = [line for line in shutdown.words if line.is_problem is bad]
        if lines:
            said = table("at", "phase", heading)
            for line in lines:
                said.add_row(f"{line.at:.3f}", line.phase, Text(line.words, style=style))
            parts += [Text(), said]
    phases = table("phase", "seconds", "")
    for phase in shutdown.phases:
        seconds = phase.end - phase.begin
        marks = round(BAR * seconds / shutdown.end) if shutdown.end else 0
        phases.add_row(phase.name, f"{seconds:.3f}", "▇" * marks)
    parts += [Text(), phases]
    slowest = sorted(shutdown.steps, key=_rank)[:SHOWN]
    if slowest:
        layers = table("layer", "phase", "seconds", "outcome")
        for step in slowest:
            outcome = step.error or {"close": "closed", "settle": "made safe"}.get(step.event, "")
            outcome = (
                "flushed" if step.kind in ("disk", "partition") and not step.error else outcome
            )
            style = "red" if step.error else ""
            layers.add_row(
                Text(step.layer), step.phase, f"{step.seconds:.3f}", Text(outcome, style=style)
            )
        parts += [Text(), layers]
    more = len(shutdown.steps) - len(slowest)
    tail = [f"{more} quicker layers are not shown here: --json has them"] if more else []
    parts += [Text(words, style="dim") for words in (*tail, *_left_out(shutdown))]
    console = Console(file=sys.stdout, highlight=False)
    with console.capture() as capture:
        console.print(Group(*parts))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _rank(step: Step) -> tuple[bool, float]:
    return not step.error, -step.seconds


def _counts(shutdown: Shutdown) -> str:
    """Return what became of it, in words."""
    if shutdown.remaining is None:
        return "it was not reported what remained"
    took = f" in {shutdown.seconds:.2f} s" if shutdown.seconds is not None else ""
    return (
        f"closed {shutdown.closed}, remaining {shutdown.remaining},"
        f" keys left {shutdown.keys_left}{took}"
    )


def _left_out(shutdown: Shutdown) -> list[str]:
    """Return what there was no room for."""
    found = []
    if shutdown.words_left_out:
        found.append(f"no room was left for {shutdown.words_left_out} lines")
    if shutdown.steps_left_out:
        found.append(f"no room was left for {shutdown.steps_left_out} quicker layers")
    return found


def _before(when: datetime) -> str:
    """Return how long that was before this machine was started; "" if it was not before."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    seconds = booted - when.timestamp()
    if seconds < 0:
        return ""
    return f", {timedelta(seconds=round(seconds))} before this start"
