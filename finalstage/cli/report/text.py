"""A shutdown as people and programs read it: as text, as JSON, as a timeline."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta

from rich.console import Console

from finalstage.cli import terminal
from finalstage.cli.report import timeline
from finalstage.cli.report.shutdown import Shutdown, Step

SCHEMA = "report.schema.json"
SHOWN = 20
"""Layers that the text has, the slowest."""

BAR = 30


def as_json(shutdown: Shutdown, place: str) -> str:
    """Return it as the schema says."""
    return json.dumps(
        {
            "version": 1,
            "finalstage": shutdown.version,
            "place": place,
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
    return timeline.draw_by_phase(whole)


def as_text(shutdown: Shutdown, place: str, out: Console) -> str:
    """Return it for a terminal, problems first."""
    paint = terminal.painter(out)
    parts = [
        f"{shutdown.verb} on {shutdown.when:%Y-%m-%d at %H:%M:%S}{_before(shutdown.when)}",
        f"from: {place}, by finalstage {shutdown.version}",
        paint(_counts(shutdown), "bold green" if shutdown.is_clean else "bold red"),
    ]
    for bad, heading, style in ((True, "problem", "red"), (False, "note", "")):
        # Not in columns, which a terminal's edge would cut.
        lines = [
            f"{line.at:7.3f}  {line.phase:<8}{paint(line.words, style)}"
            for line in shutdown.words
            if line.is_problem is bad
        ]
        if lines:
            parts += ["", paint(f"{'at':>7}  {'phase':<8}{heading}", "bold"), *lines]
    phases = [
        ((each.name, ""), (f"{each.seconds:.3f}", ""), (_bar(each.seconds, shutdown.end), "blue"))
        for each in shutdown.phases
    ]
    parts += ["", terminal.columns(out, ("phase", "seconds", ""), phases, right=("seconds",))]
    slowest = sorted(shutdown.steps, key=_rank)[:SHOWN]
    layers = [
        ((each.layer, ""), (each.phase, ""), (f"{each.seconds:.3f}", ""), _outcome(each))
        for each in slowest
    ]
    if layers:
        head = ("layer", "phase", "seconds", "outcome")
        parts += ["", terminal.columns(out, head, layers, right=("seconds",))]
    more = len(shutdown.steps) - len(slowest)
    parts += [f"{more} quicker layers are not shown here: --json has them"] if more else []
    return "\n".join((*parts, *_left_out(shutdown)))


def _bar(seconds: float, whole: float) -> str:
    """Return a bar as long as its share of the whole."""
    return "#" * round(BAR * seconds / whole) if whole else ""


def _outcome(step: Step) -> terminal.Cell:
    if step.error:
        return step.error, "red"
    if step.kind in ("disk", "partition"):
        return "flushed", ""
    return {"close": "closed", "settle": "made safe"}.get(step.event, step.event), ""


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
