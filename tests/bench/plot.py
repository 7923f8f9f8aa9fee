"""The contestants of every trial as bars: a panel a trial, each with a scale of its own."""

from __future__ import annotations

from finalstage.cli.svg import Drawing
from tests.bench import figures
from tests.bench.contestants import CONTESTANTS, Contestant
from tests.bench.results import Results
from tests.bench.stacks import TRIALS

COLUMNS, PANEL, GAP, MARGIN = 2, 470, 30, 20
LABELS, VALUES = 160, 56
BAR, ROW, HEAD = 13, 19, 26

OURS, THEIRS, BARE = ("#0969da", "#54aeff", "#80ccff"), "#afb8c1", "#2da44e"


def draw(results: Results) -> str:
    """The drawing as SVG."""
    panels = [(trial.name, bars) for trial in TRIALS if (bars := _bars(results, trial.name))]
    heights = [
        max(HEAD + ROW * len(bars) for _, bars in panels[start : start + COLUMNS])
        for start in range(0, len(panels), COLUMNS)
    ]
    width = 2 * MARGIN + COLUMNS * PANEL + (COLUMNS - 1) * GAP
    height = 2 * MARGIN + sum(heights) + GAP * max(0, len(heights) - 1)
    drawing = Drawing(width, height, "Seconds from exec to power-off")
    for number, (name, bars) in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        x = MARGIN + column * (PANEL + GAP)
        y = MARGIN + sum(heights[:row]) + GAP * row
        _panel(drawing, x, y, name, bars)
    return drawing.text()


def _bars(results: Results, trial: str) -> list[tuple[Contestant, float]]:
    found = ((each, figures.seconds(results, trial, each.name)) for each in CONTESTANTS)
    return [(each, value) for each, value in found if value is not None]


def _panel(
    drawing: Drawing, x: float, y: float, title: str, bars: list[tuple[Contestant, float]]
) -> None:
    drawing.words(x + LABELS, y + 14, f"{title}, seconds", 13, bold=True)
    longest = max(value for _, value in bars)
    room = PANEL - LABELS - VALUES
    ours = [each for each, _ in bars if each.is_ours]
    for number, (contestant, value) in enumerate(bars):
        top = y + HEAD + ROW * number
        base = top + BAR - 2.5
        long = max(1.0, room * value / longest)
        if contestant.is_ours:
            colour = OURS[ours.index(contestant) % len(OURS)]
        else:
            colour = BARE if contestant.tree == "oracle" else THEIRS
        drawing.words(x + LABELS - 8, base, contestant.name, 12, "end")
        drawing.box(x + LABELS, top, long, BAR, colour, f"{contestant.name}: {value:.2f} s")
        drawing.words(x + LABELS + long + 6, base, f"{value:.2f}", 12, bold=contestant.is_ours)
    drawing.line(x + LABELS, y + HEAD - 4, x + LABELS, y + HEAD + ROW * len(bars) - 2)
