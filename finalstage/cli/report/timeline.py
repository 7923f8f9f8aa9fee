"""One machine going down, drawn over time: a bar for each layer that was closed, and the phases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from finalstage.cli.svg import FAINT, PAPER, Drawing, step, width

LEFT, RIGHT, TOP, HEAD, BOTTOM = 24, 24, 84, 24, 34
PLOT = 920
SHORTEST, ALMOST = 1e-3, 1e-6
FEW = 40
"""Up to so many layers each has its name beside its bar."""

LONGEST = 70
"""Letters of such a name; half of the width is enough for them."""

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


@dataclass(frozen=True)
class Scale:
    """Where a time is on the drawing."""

    begin: float
    end: float

    def x(self, at: float) -> float:
        """Return its place from the left."""
        return LEFT + PLOT * (at - self.begin) / max(self.end - self.begin, SHORTEST)


def draw(timeline: Timeline) -> str:
    """The drawing as SVG: all bars on one axis, upon the phases."""
    bars = _sorted(timeline.bars)
    scale, height = Scale(0.0, timeline.seconds), TOP + _height(bars) + BOTTOM
    drawing = _begin(timeline, height)
    _bands(drawing, timeline.bands, scale, TOP - 28, _height(bars) + 28)
    _axis(drawing, scale, TOP - 4, TOP + _height(bars) + 4)
    _bars(drawing, bars, scale, TOP)
    drawing.words(LEFT + PLOT, height - 4, timeline.axis, 11, "end", FAINT)
    return drawing.text()


def draw_by_phase(timeline: Timeline) -> str:
    """The drawing as SVG: the phases on one axis, and below that the bars of each phase on one of
    their own. One phase may take a thousand times as long as another."""
    panels = [
        (band, bars)
        for number, band in enumerate(timeline.bands)
        if (bars := _ending_in(timeline, number))
    ]
    below = float(TOP + BOTTOM)
    height = below + sum(HEAD + _height(bars) + BOTTOM for _, bars in panels) + BOTTOM / 2
    drawing = _begin(timeline, height)
    whole = Scale(0.0, timeline.seconds)
    _bands(drawing, timeline.bands, whole, TOP - 28, 28)
    _axis(drawing, whole, TOP, TOP + 4)
    for band, bars in panels:
        scale = Scale(min(bar.begin for bar in bars), max(bar.end for bar in bars))
        top, tall = below + HEAD, _height(bars)
        drawing.words(LEFT, below + 14, band.name, 13, bold=True)
        words = (
            f"{band.end - band.begin:.3f} s, {len(bars)} {'step' if len(bars) == 1 else 'steps'}"
        )
        drawing.words(LEFT + width(band.name, 13) + 14, below + 14, words, 12, colour=FAINT)
        drawing.box(LEFT, top, PLOT, tall, BANDS[0])
        _axis(drawing, scale, top, top + tall + 4)
        _bars(drawing, bars, scale, top)
        below += HEAD + tall + BOTTOM
    drawing.words(LEFT + PLOT, height - 6, timeline.axis, 11, "end", FAINT)
    return drawing.text()


def _ending_in(timeline: Timeline, number: int) -> list[Bar]:
    """The bars that end in a phase; what is done at its very end still belongs to it."""
    begin = timeline.bands[number].begin if number else float("-inf")
    is_last = number == len(timeline.bands) - 1
    end = float("inf") if is_last else timeline.bands[number].end
    return _sorted(bar for bar in timeline.bars if begin < bar.end <= end)


def _sorted(bars: Iterable[Bar]) -> list[Bar]:
    return sorted(bars, key=lambda bar: (bar.begin, bar.end))


def _height(bars: Sequence[Bar]) -> float:
    return _row(bars) * len(bars)


def _row(bars: Sequence[Bar]) -> float:
    return THICK if len(bars) <= FEW else THIN


def _begin(timeline: Timeline, height: float) -> Drawing:
    """A drawing with its title, its notes and what the colours mean."""
    drawing = Drawing(LEFT + PLOT + RIGHT, height, timeline.title)
    drawing.words(LEFT, 20, timeline.title, 14, bold=True)
    drawing.words(LEFT, 40, timeline.notes, 12)
    x = float(LEFT + PLOT)
    there = {bar.look for bar in timeline.bars}
    for look in reversed([each for each in (*KINDS.values(), OTHERS, FAILED) if each in there]):
        words, colour = look
        x -= width(words, 12) + 4
        drawing.words(x, 20, words, 12)
        drawing.box(x - 16, 10, 11, 11, colour)
        x -= 32
    return drawing


def _bars(drawing: Drawing, bars: Sequence[Bar], scale: Scale, top: float) -> None:
    """The bars, one below the other, with their names where they are few."""
    row = _row(bars)
    for number, bar in enumerate(bars):
        x, y = scale.x(bar.begin), top + row * number
        long = max(1.5, scale.x(bar.end) - x)
        hint = f"{bar.name}: {bar.begin:.3f} s to {bar.end:.3f} s"
        hint += f", {bar.error}" if bar.error else ""
        drawing.box(x, y + row * 0.15, long, row * 0.7, bar.look[1], hint)
        if row == THICK:
            name = f"{bar.name}: {bar.error}" if bar.error else bar.name
            name = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
            _name(drawing, name, x, long, y + row * 0.72)


def _name(drawing: Drawing, name: str, x: float, long: float, y: float) -> None:
    """A layer's name: after its bar, or before it where there is no room, or upon it."""
    wide = width(name, 11) + 5
    if x + long + wide < LEFT + PLOT:
        drawing.words(x + long + 5, y, name, 11)
    elif x - wide > LEFT:
        drawing.words(x - 5, y, name, 11, "end")
    else:
        drawing.words(x + 5, y, name, 11, colour=PAPER)


def _bands(
    drawing: Drawing, bands: Sequence[Band], scale: Scale, top: float, height: float
) -> None:
    """A band for each phase, with its name where there is room."""
    for number, band in enumerate(bands):
        x, seconds = scale.x(band.begin), band.end - band.begin
        long = scale.x(band.end) - x
        drawing.box(x, top, long, height, BANDS[number % 2], f"{band.name}: {seconds:.3f} s")
        if long > width(band.name, 12) + 4:
            drawing.words(x + long / 2, top + 16, band.name, 12, "middle")


def _axis(drawing: Drawing, scale: Scale, top: float, bottom: float) -> None:
    """Lines from top to bottom at round times, and the times below."""
    distance = step(max(scale.end - scale.begin, SHORTEST), 8)
    digits = max(0, -floor(log10(distance) + ALMOST))
    number = ceil(scale.begin / distance - ALMOST)
    while number * distance <= scale.end + ALMOST * distance:
        x = scale.x(number * distance)
        drawing.line(x, top, x, bottom)
        drawing.words(x, bottom + 14, f"{number * distance:.{digits}f}", 11, "middle", FAINT)
        number += 1
