"""The plan as a picture: disks at the bottom, mounts on top, what is encrypted in green, with a
lock where that is done, and at each layer the number of the step in which it is closed."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import pairwise

from finalstage.cli import sizes, svg
from finalstage.cli.plan import layering
from finalstage.cli.plan import text as plan_text
from finalstage.cli.plan.forecast import REMAIN, SEAL
from finalstage.cli.plan.layering import Node, Part
from finalstage.cli.plan.outlook import Outlook
from finalstage.stack import Layer, Stack, printable

WIDTH, HEIGHT, RISE = 168.0, 54.0, 42.0
"""Of a box, and between two levels of them."""

MARGIN, HEAD, FOOT = 28.0, 64.0, 34.0
ROW, ASPECT = 1200.0, 1.5
"""How wide a row of parts may be at least, and how much wider than high a large picture is."""

RADIUS, BADGE = 9.0, 10.0
INK, FAINT, PAPER = svg.INK, "#57606a", svg.PAPER
SAFE, SAFE_LINE, LOCKED, PLAIN, PLAIN_LINE = "#e3f6e8", "#2f9e57", "#2f9e57", "#f3f5f8", "#9aa4b2"
RED, ORANGE = "#cf222e", "#d9730d"
STRIPES = {
    "mount": "#3b7dd8",
    "swap": "#8e5bd0",
    "dm": "#14909a",
    "md": "#c97a12",
    "bcache": "#c97a12",
    "loop": "#c2528b",
    "zram": "#c2528b",
}
STRIPE = "#64707d"
DARK = """@media (prefers-color-scheme: dark) {
.paper { fill: #0d1117 } .ink { fill: #e6edf3 } .faint { fill: #9aa4b2 }
.safe { fill: #12301f } .plain { fill: #1b222b } .rise { stroke: #5b6675 }
}"""
"""What is other than usual for who likes it dark. Who cannot read that has the white paper."""

LOCK = "M{x} {y}h11v8h-11z M{a} {y}v-2.5a3.5 3.5 0 0 1 7 0v2.5h-1.8v-2.5a1.7 1.7 0 0 0-3.4 0v2.5z"


@dataclass(frozen=True)
class Spot:
    """Where a part lies: its left edge and the bottom of its disks."""

    part: Part
    x: float
    y: float

    def middle(self, node: Node) -> float:
        """The middle of a node."""
        return self.x + self.part.at[node] * WIDTH

    def top(self, node: Node) -> float:
        """The upper edge of a node."""
        return self.y - HEIGHT - self.part.level[node] * (HEIGHT + RISE)


def draw(outlook: Outlook, everything: bool = False) -> str:
    """Return the drawing, as a file's text."""
    stack = outlook.visible(everything)
    spots, width, bottom = _arrange(layering.place(stack))
    letters = int((width - 2 * MARGIN) / (11 * svg.LETTER))
    said = (*_rings(outlook), *outlook.notes, *outlook.problems)
    notes = [line for each in said for line in textwrap.wrap(printable(each), letters)]
    height = bottom + FOOT + 16 * len(notes) + MARGIN / 2
    out = svg.Drawing(width, height, "finalstage plan", DARK)
    out.words(MARGIN, 30, "What lies on what, and when it is closed", 17, bold=True, look="ink")
    out.words(MARGIN, 49, _counted(outlook, stack), 11.5, colour=FAINT, look="faint")
    for spot in spots:
        _edges(out, outlook, spot)
    for spot in spots:
        for node in spot.part.at:
            if isinstance(node, str):
                _box(out, outlook, stack.by_id[node], spot.middle(node) - WIDTH / 2, spot.top(node))
    _legend(out, outlook, bottom + FOOT - 6)
    for number, note in enumerate(notes):
        y = bottom + FOOT + 16 * (number + 1)
        out.words(MARGIN, y, note, 11, colour=FAINT, look="faint")
    return out.text().rstrip("\n")


def _arrange(parts: list[Part]) -> tuple[list[Spot], float, float]:
    """Put parts into rows, each with its disks on one line; return also how wide all is, and where
    the last row ends."""
    gap = layering.GAP * 2.5 * WIDTH
    area = sum((part.width * WIDTH + gap) * part.height * (HEIGHT + RISE) for part in parts)
    most = max(ROW, (area * ASPECT) ** 0.5)
    rows: list[list[Part]] = []
    x = 0.0
    for part in parts:
        if not rows or x + part.width * WIDTH > most:
            rows.append([])
            x = 0.0
        rows[-1].append(part)
        x += part.width * WIDTH + gap
    spots = []
    widest, y = 620.0, HEAD
    for row in rows:
        levels = max(part.height for part in row)
        y += levels * (HEIGHT + RISE) - RISE + BADGE + 14
        x = MARGIN
        for part in row:
            spots.append(Spot(part, x, y))
            x += part.width * WIDTH + gap
        widest = max(widest, x - gap + MARGIN)
        y += 22
    return spots, widest, y


def _edges(out: svg.Drawing, outlook: Outlook, spot: Spot) -> None:
    """Draw what stands on what, each bend a smooth one."""
    for route in spot.part.routes:
        upper = route[0]
        assert isinstance(upper, str)
        safe = outlook.facts[upper].encrypted
        steps = f"M{spot.middle(upper):.1f} {spot.top(upper) + HEIGHT:.1f}"
        for one, next in pairwise(route):
            from_x, to_x = spot.middle(one), spot.middle(next)
            from_y, to_y = spot.top(one) + HEIGHT, spot.top(next)
            middle = (from_y + to_y) / 2
            steps += f"C{from_x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
            if not isinstance(next, str):
                steps += f"V{to_y + HEIGHT:.1f}"
        colour = SAFE_LINE if safe else PLAIN_LINE
        out.path(steps, colour, width=1.8, look="" if safe else "rise")
    for upper, lower in spot.part.back:
        x, y = spot.middle(upper), spot.top(upper) + HEIGHT
        to_x, to_y = spot.middle(lower) - WIDTH / 4, spot.top(lower)
        aside = min(x, to_x) - WIDTH * 0.75
        steps = f"M{x - WIDTH / 4:.1f} {y:.1f}C{aside:.1f} {y + 60:.1f} {aside:.1f} {to_y - 60:.1f}"
        out.path(f"{steps} {to_x:.1f} {to_y:.1f}", ORANGE, width=1.8, dotted=True)


def _box(out: svg.Drawing, outlook: Outlook, layer: Layer, x: float, y: float) -> None:
    facts, fate = outlook.facts[layer.id], outlook.fates[layer.id]
    step = outlook.step_of.get(layer.id)
    faint = layer.id in outlook.context
    held = plan_text.held_by(facts, 1)
    if faint:
        out.begin(0.5)
    locked, safe = bool(facts.encryption), facts.encrypted
    border = {SEAL: RED, REMAIN: ORANGE}.get(fate.what, SAFE_LINE if safe else PLAIN_LINE)
    fill, look = (LOCKED, "") if locked else (SAFE, "safe") if safe else (PLAIN, "plain")
    hint = "\n".join(filter(None, (layer.title, fate.why, *facts.processes[:20])))
    out.box(
        *(x, y, WIDTH, HEIGHT, fill, hint),
        radius=RADIUS,
        border=border,
        dashed=fate.stays,
        look=look,
    )
    if locked:
        out.path(LOCK.format(x=f"{x + 10:.1f}", y=f"{y + 17:.1f}", a=f"{x + 12:.1f}"), PAPER)
    else:
        out.box(x + 6, y + 9, 4, HEIGHT - 18, STRIPES.get(layer.kind, STRIPE), radius=2)
    ink, faded = (PAPER, PAPER) if locked else (INK, FAINT)
    looks = ("", "") if locked else ("ink", "faint")
    left = x + (26 if locked else 18)
    room = WIDTH - (left - x) - 8
    words = ", ".join(
        filter(None, (facts.encryption or printable(layer.type), sizes.shown(facts.size)))
    )
    said = {SEAL: "sealed", REMAIN: "remains"}.get(fate.what, "")
    below = f"{said}: {fate.why}" if fate.stays else f"held by {held}" if held else ""
    line = y + (18 if below else 24)
    name = svg.cut(printable(layer.name), 13 * svg.BOLD, room - 6, front=layer.name.startswith("/"))
    out.words(left, line, name, 13, colour=ink, bold=True, look=looks[0])
    out.words(left, line + 15, svg.cut(words, 11, room), 11, colour=faded, look=looks[1])
    if below:
        colour = (RED if fate.what == SEAL else ORANGE) if fate.stays and not locked else faded
        out.words(left, line + 29, svg.cut(below, 9.5, room), 9.5, colour=colour)
    if step:
        _badge(out, x + WIDTH - 6, y + 2, step, {SEAL: RED, REMAIN: ORANGE}.get(fate.what, INK))
    if faint:
        out.end()


def _badge(out: svg.Drawing, x: float, y: float, step: int, colour: str) -> None:
    """Draw the number of a step in a ring of paper, so that it stands out from any box."""
    out.circle(x, y, BADGE + 1.5, PAPER, look="paper")
    out.circle(x, y, BADGE, colour if colour != INK else "#4a5568")
    out.words(x, y + 4, str(step), 11 if step < 100 else 8.5, "middle", PAPER, bold=True)


def _legend(out: svg.Drawing, outlook: Outlook, y: float) -> None:
    """Say what the signs mean: those that are there."""
    x = MARGIN
    fates = {outlook.fates[id].what for id in outlook.step_of}
    encrypted = any(facts.encrypted for facts in outlook.facts.values())
    signs = [("step", "the step in which it is closed: those of one number at once")]
    signs += [("safe", "all that is written to it is encrypted")] if encrypted else []
    signs += [("seal", "sealed, not closed: its key is wiped")] if SEAL in fates else []
    signs += [("left", "remains")] if REMAIN in fates else []
    for sign, words in signs:
        if sign == "step":
            _badge(out, x + BADGE, y - 4, 1, INK)
        elif sign == "safe":
            out.box(x, y - 13, 20, 16, SAFE, radius=4, border=SAFE_LINE, look="safe")
        else:
            colour = RED if sign == "seal" else ORANGE
            out.box(x, y - 13, 20, 16, PLAIN, radius=4, border=colour, dashed=True, look="plain")
        out.words(x + 27, y, words, 11, colour=FAINT, look="faint")
        x += 27 + svg.width(words, 11) + 20


def _counted(outlook: Outlook, stack: Stack) -> str:
    layers = sizes.counted(len(stack.layers), "layer")
    steps = sizes.counted(len(outlook.steps), "step")
    return (
        f"{layers}, closed in {steps} from the top down, up to {outlook.width} at once;"
        " disks and partitions are flushed"
    )


def _rings(outlook: Outlook) -> list[str]:
    by_id = outlook.stack.by_id
    return [
        f"a circle: {' on '.join(by_id[id].title for id in (*ring, ring[0]))}"
        for ring in outlook.circles
    ]
