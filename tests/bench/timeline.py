"""One machine going down, drawn over time: a bar for each layer that was closed, and the phases."""

from __future__ import annotations

import re
from dataclasses import dataclass

from finalstage.cli.svg import FAINT, Drawing, step, width
from tests.bench import figures
from tests.bench.results import Timeline

LEFT, RIGHT, TOP, BOTTOM = 24, 24, 74, 34
PLOT = 920
FEW = 40
"""Up to so many layers each has its name beside its bar."""

THICK, THIN = 15.0, 3.0
KINDS = (
    (r"mount:", "mounts", "#0969da"),
    (r".* (linear|crypt) ", "device mapper", "#bf8700"),
    (r"block:7:", "loop devices", "#8250df"),
    (r"block:9:", "arrays", "#1a7f37"),
    (r".* disk ", "disks, flushed", "#cf222e"),
    (r"", "others", "#6e7781"),
)
"""What a layer's id and title are like, what such layers are called, and their colour."""

BANDS = ("#f6f8fa", "#eaeef2")


@dataclass(frozen=True)
class Bar:
    """The closing of one layer: from when to when, in seconds since exec."""

    name: str
    id: str
    begin: float
    end: float

    @property
    def kind(self) -> tuple[str, str, str]:
        """Its row in KINDS."""
        words = f"{self.id} {self.name}"
        return next(kind for kind in KINDS if re.match(kind[0], words))


def bars(timeline: Timeline) -> list[Bar]:
    """A bar for each layer that was closed, by when that began."""
    found = []
    for record in timeline["records"]:
        if record["event"] == "close":
            end = float(record["at"]) + timeline["offset"]
            found.append(Bar(record["layer"], record["id"], end - float(record["seconds"]), end))
    return sorted(found, key=lambda bar: (bar.begin, bar.end))


def bands(timeline: Timeline) -> list[tuple[str, float, float]]:
    """Each phase, from when to when."""
    spans = figures.spans(timeline["records"], timeline["offset"], timeline["seconds"])
    found: list[tuple[str, float, float]] = []
    at = 0.0
    for name, seconds in spans.items():
        found.append((name, at, at + seconds))
        at += seconds
    return found


def draw(timeline: Timeline, title: str) -> str:
    """The drawing as SVG."""
    those = bars(timeline)
    row = THICK if len(those) <= FEW else THIN
    height = TOP + row * len(those) + BOTTOM
    scale = PLOT / timeline["seconds"]
    drawing = Drawing(LEFT + PLOT + RIGHT, height, title)
    drawing.words(LEFT, 20, title, 14, bold=True)
    _legend(drawing, those)
    _phases(drawing, timeline, scale, height)
    _axis(drawing, timeline["seconds"], scale, height)
    for number, bar in enumerate(those):
        y = TOP + row * number
        x, long = LEFT + bar.begin * scale, max(1.0, (bar.end - bar.begin) * scale)
        hint = f"{bar.name}: {bar.begin:.3f} s to {bar.end:.3f} s"
        drawing.box(x, y + row * 0.1, long, row * 0.8, bar.kind[2], hint)
        if row == THICK:
            _name(drawing, bar.name, x, long, y + row * 0.75)
    return drawing.text()


def _name(drawing: Drawing, name: str, x: float, long: float, y: float) -> None:
    """A layer's name: after its bar, or before it where there is no room."""
    if x + long + 5 + width(name, 11) < LEFT + PLOT:
        drawing.words(x + long + 5, y, name, 11)
    else:
        drawing.words(x - 5, y, name, 11, "end")


def _legend(drawing: Drawing, those: list[Bar]) -> None:
    x = float(LEFT + PLOT)
    for kind in reversed([kind for kind in KINDS if any(bar.kind == kind for bar in those)]):
        x -= width(kind[1], 12) + 4
        drawing.words(x, 20, kind[1], 12)
        drawing.box(x - 16, 10, 11, 11, kind[2])
        x -= 32


def _phases(drawing: Drawing, timeline: Timeline, scale: float, height: float) -> None:
    """A band for each phase, with its name where there is room."""
    for number, (name, begin, end) in enumerate(bands(timeline)):
        x, long = LEFT + begin * scale, (end - begin) * scale
        hint = f"{name}: {end - begin:.3f} s"
        drawing.box(x, TOP - 28, long, height - BOTTOM - TOP + 28, BANDS[number % 2], hint)
        if long > width(name, 12) + 4:
            drawing.words(x + long / 2, TOP - 12, name, 12, "middle")


def _axis(drawing: Drawing, seconds: float, scale: float, height: float) -> None:
    distance = step(seconds, 8)
    for number in range(int(seconds / distance) + 1):
        x = LEFT + number * distance * scale
        drawing.line(x, TOP - 4, x, height - BOTTOM + 4)
        drawing.words(x, height - BOTTOM + 18, f"{number * distance:.4g}", 11, "middle", FAINT)
    drawing.words(LEFT + PLOT, height - 4, "seconds since exec", 11, "end", FAINT)
