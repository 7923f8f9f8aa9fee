"""The plan as text: the stack as a tree, then the steps."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from finalstage import drawing
from finalstage.cli import sizes
from finalstage.cli.plan.facts import Facts
from finalstage.cli.plan.forecast import CLOSE, FLUSH, KEEP, REMAIN, SEAL, Fate, way
from finalstage.cli.plan.outlook import Outlook
from finalstage.cli.terminal import Cell, columns, painter, wrapped
from finalstage.stack import Layer, Stack

MOST_HOLDERS = 2
"""How many processes stand behind a layer; the others are counted."""

API = "of the kernel's own file systems"
STYLES = {SEAL: "bold red", REMAIN: "red", FLUSH: "dim", KEEP: "dim"}
DONE = {
    CLOSE: "closed",
    FLUSH: "only flushed",
    SEAL: "sealed (not closed, but without a key)",
    REMAIN: "left",
    KEEP: "kept",
}


def draw(outlook: Outlook, out: Console, everything: bool = False) -> Iterator[str]:
    """Yield the parts of the text, for a console."""
    stack = outlook.visible(everything)
    if not stack.layers:
        yield "nothing that finalstage would close"
    else:
        yield _tree(outlook, stack, out)
        yield ""
        yield _steps(outlook, stack, out)
        yield ""
        yield from wrapped(out, _summary(outlook, stack))
    paint = painter(out)
    rings = ([outlook.stack.by_id[id].title for id in (*ring, ring[0])] for ring in outlook.circles)
    circles = (f"a circle: {' on '.join(titles)}" for titles in rings)
    for words in (*circles, *outlook.notes, *outlook.problems):
        yield from (paint(line, "yellow") for line in wrapped(out, words))


def _tree(outlook: Outlook, stack: Stack, out: Console) -> str:
    """Draw the stack from the disks up, a layer a line."""
    branches = drawing.UNICODE if _has_lines(out) else drawing.ASCII
    rows = [_row(outlook, *row) for row in drawing.Drawing(stack, branches).rows]
    return columns(out, ("layer", "size", "encryption", "step", "held by"), rows, ("size", "step"))


def _has_lines(out: Console) -> bool:
    """Whether what is printed can have lines that meet."""
    return (out.encoding or "").lower().replace("-", "") == "utf8"


def _row(outlook: Outlook, prefix: str, layer: Layer, note: str) -> list[Cell]:
    facts, fate = outlook.facts[layer.id], outlook.fates[layer.id]
    name = f"{prefix}{layer.title}{note}"
    if note.startswith(" (see"):
        return [(name, "dim"), ("", ""), ("", ""), ("", ""), ("", "")]
    return [
        (name, _style(outlook, layer, fate, facts)),
        (sizes.shown(facts.size), ""),
        (facts.encryption_words, "green"),
        (str(outlook.step_of.get(layer.id, "")), "bold"),
        (held_by(facts), "dim"),
    ]


def _style(outlook: Outlook, layer: Layer, fate: Fate, facts: Facts) -> str:
    if layer.id in outlook.context:
        return "dim"
    if fate.stays:
        return STYLES[fate.what]
    return "bold green" if facts.encryption else ""


def held_by(facts: Facts, most: int = MOST_HOLDERS) -> str:
    """Return the processes that hold a layer, in a few words."""
    names = list(dict.fromkeys(words.rpartition(" (")[0] or words for words in facts.processes))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _steps(outlook: Outlook, stack: Stack, out: Console) -> str:
    """List who is acted on in each step, and what there is to know about it."""
    rows: list[list[Cell]] = []
    for number, group in enumerate(outlook.steps, 1):
        shown = [layer for layer in group if layer.id in stack.by_id]
        lines = [_step(outlook, layer) for layer in shown]
        if hidden := len(group) - len(shown):
            lines.append([("unmount", "dim"), (f"{hidden} {API}", "dim"), ("", "")])
        for at, line in enumerate(lines):
            rows.append([(str(number) if at == 0 else "", "bold"), *line])
    return columns(out, ("step", "what", "layer", "why, or how"), rows, ("step",))


def _step(outlook: Outlook, layer: Layer) -> list[Cell]:
    fate = outlook.fates[layer.id]
    style = STYLES.get(fate.what, "")
    return [(way(layer, fate), style), (layer.title, style), (fate.why, "")]


def _summary(outlook: Outlook, stack: Stack) -> str:
    """Count."""
    count: dict[str, int] = {}
    for group in outlook.steps:
        for layer in group:
            if layer.id in stack.by_id:
                what = outlook.fates[layer.id].what
                count[what] = count.get(what, 0) + 1
    words = [f"{count[what]} {words}" for what, words in DONE.items() if what in count]
    steps = sizes.counted(len(outlook.steps), "step")
    return f"{steps}, up to {outlook.width} layers at once; {', '.join(words) or 'nothing to do'}"
