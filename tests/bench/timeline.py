"""A machine that the benchmark has measured, as a timeline from exec to power-off."""

from __future__ import annotations

from finalstage.cli.report import timeline
from finalstage.cli.report.timeline import Band, Bar
from tests.bench import figures
from tests.bench.results import Timeline


def bars(of: Timeline) -> list[Bar]:
    """A bar for each layer that was closed, by when that began."""
    found = []
    for record in of["records"]:
        if record["event"] == "close":
            end = float(record["at"]) + of["offset"]
            begin = end - float(record["seconds"])
            found.append(Bar(record["layer"], record["kind"], begin, end, record["error"] or ""))
    return sorted(found, key=lambda bar: (bar.begin, bar.end))


def bands(of: Timeline) -> list[Band]:
    """Each phase, from when to when."""
    found: list[Band] = []
    at = 0.0
    for name, seconds in figures.spans(of["records"], of["offset"], of["seconds"]).items():
        found.append(Band(name, at, at + seconds))
        at += seconds
    return found


def draw(of: Timeline, title: str) -> str:
    """The drawing as SVG."""
    whole = timeline.Timeline(title, of["seconds"], bars(of), bands(of), "seconds since exec")
    return timeline.draw(whole)
