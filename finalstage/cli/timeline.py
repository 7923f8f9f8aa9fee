"""One machine going down, drawn over time: a bar for each layer that was closed, and the phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finalstage.cli.svg import FAINT, Drawing, step, width

LEFT, RIGHT, TOP, BOTTOM = 24, 24, 84, 34
PLOT = 920
FEW = 40
"""Up to so many layers each has its name beside its bar."""

THICK, THIN = 18.0, 3.0
KINDS = {
    "mount": ("mounts", "#0969da"),
    "swap": ("swap", "#0a7ea4"),
    "dm": ("device mapper", "#bf8700"),
    "loop": ("loop devices", "#8250df"),
    "md": ("arrays", "#1a7f37"),
    "disk": ("disks, flushed", "#a371a0"),
}
OTHERS = ("others", "#6e7781")
FAILED = ("failed", "#cf222e")
"""What layers of a kind are called, and their colour."""

BANDS = ("#f6f8fa", "#eaeef2")


@dataclass(frozen=True)
class Bar:
    """What was done to one layer: from when to when, in seconds; `error` is why that failed."""

    name: str
    kind: str
    begin: float
    end: float
    error: str = ""

    @property
    def look(self) -> tuple[str, str]:
        """What such bars are called, and their colour."""
        return FAILED if self.error else KINDS.get(self.kind, OTHERS)


@dataclass(frozen=True)
class Band:
    """A phase, from when to when."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """All of it. `notes` stand below the title, `axis` below the axis."""

    title: str
    seconds: float
    bars: Sequence[Bar]
    bands: Sequence[Band]
    axis: str
    notes: str = ""


def draw(timeline: Timeline) -> str:
    """The drawing as SVG."""
    bars = sorted(timeline.bars, key=lambda bar: (bar.begin, bar.end))
    row = THICK if len(bars) <= FEW else THIN
    height = TOP + row * len(bars) + BOTTOM
    scale = PLOT / max(timeline.seconds, 1e-3)
    drawing = Drawing(LEFT + PLOT + RIGHT, height, timeline.title)
    drawing.words(LEFT, 20, timeline.title, 14, bold=True)
    drawing.words(LEFT, 40, timeline.notes, 12)
    _legend(drawing, bars)
    _bands(drawing, timeline.bands, scale, height)
    _axis(drawing, timeline, scale, height)
    for number, bar in enumerate(bars):
        y = TOP + row * number
        x, long = LEFT + bar.begin * scale, max(1.5, (bar.end - bar.begin) * scale)
        hint = f"{bar.name}: {bar.begin:.3f} s to {bar.end:.3f} s"
        hint += f", {bar.error}" if bar.error else ""
        drawing.box(x, y + row * 0.15, long, row * 0.7, bar.look[1], hint)
        if row == THICK:
            name = f"{bar.name}: {bar.error}" if bar.error else bar.name
            _name(drawing, name, x, long, y + row * 0.72)
    return drawing.text()


def _name(drawing: Drawing, name: str, x: float, long: float, y: float) -> None:
    """A layer's name: after its bar, or before it where there is no room."""
    if x + long + 5 + width(name, 11) < LEFT + PLOT:
        drawing.words(x + long + 5, y, name, 11)
    else:
        drawing.words(x - 5, y, name, 11, "end")


def _legend(drawing: Drawing, bars: Sequence[Bar]) -> None:
    x = float(LEFT + PLOT)
    there = {bar.look for bar in bars}
    for look in reversed([each for each in (*KINDS.values(), OTHERS, FAILED) if each in there]):
        words, colour = look
        x -= width(words, 12) + 4
        drawing.words(x, 40, words, 12)
        drawing.box(x - 16, 30, 11, 11, colour)
        x -= 32


def _bands(drawing: Drawing, bands: Sequence[Band], scale: float, height: float) -> None:
    """A band for each phase, with its name where there is room."""
    for number, band in enumerate(bands):
        x, long = LEFT + band.begin * scale, (band.end - band.begin) * scale
        hint = f"{band.name}: {band.end - band.begin:.3f} s"
        drawing.box(x, TOP - 28, long, height - BOTTOM - TOP + 28, BANDS[number % 2], hint)
        if long > width(band.name, 12) + 4:
            drawing.words(x + long / 2, TOP - 12, band.name, 12, "middle")


def _axis(drawing: Drawing, timeline: Timeline, scale: float, height: float) -> None:
    distance = step(max(timeline.seconds, 1e-3), 8)
    for number in range(int(timeline.seconds / distance) + 1):
        x = LEFT + number * distance * scale
        drawing.line(x, TOP - 4, x, height - BOTTOM + 4)
        drawing.words(x, height - BOTTOM + 18, f"{number * distance:.4g}", 11, "middle", FAINT)
    drawing.words(LEFT + PLOT, height - 4, timeline.axis, 11, "end", FAINT)
