"""The plan as a graph in the language of Graphviz: an arrow says what stands on what."""

from __future__ import annotations

from finalstage.cli import sizes
from finalstage.cli.plan.forecast import REMAIN, SEAL
from finalstage.cli.plan.outlook import Outlook
from finalstage.stack import Layer, printable

PLAIN, SAFE, LOCKED = "#eef1f5", "#dff3e4", "#b7e4c7"
"""Fills: not encrypted, lying on encryption, encrypting."""

BORDER = "#6b7280"
LINE_END = "\\n"
BORDERS = {SEAL: "#c0392b", REMAIN: "#e67e22"}


def draw(outlook: Outlook, everything: bool = False) -> str:
    """Return it, disks at the bottom."""
    stack = outlook.visible(everything)
    lines = [
        "digraph plan {",
        "  rankdir=TB;",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];',
        '  edge [color="#6b7280", arrowsize=0.7];',
    ]
    for layer in stack.layers:
        lines.append(f"  {quoted(layer.id)} [{_attributes(outlook, layer)}];")
    for layer in stack.layers:
        for lower in dict.fromkeys(layer.below):
            if lower in stack.by_id:
                style = " [style=dotted, constraint=false]" if lower in layer.places else ""
                lines.append(f"  {quoted(layer.id)} -> {quoted(lower)}{style};")
    for group in outlook.steps:
        disks = [quoted(layer.id) for layer in group if layer.is_disk and layer.id in stack.by_id]
        if len(disks) > 1:
            lines.append(f"  {{ rank=same; {'; '.join(disks)}; }}")
    return "\n".join((*lines, "}"))


def _attributes(outlook: Outlook, layer: Layer) -> str:
    facts, fate = outlook.facts[layer.id], outlook.fates[layer.id]
    step = outlook.step_of.get(layer.id)
    lines = [
        f"{step}. {layer.name}" if step else layer.name,
        ", ".join(filter(None, (layer.type, sizes.shown(facts.size)))),
        facts.encryption,
        fate.what if fate.stays else "",
    ]
    fill = LOCKED if facts.encryption else SAFE if facts.encrypted else PLAIN
    return ", ".join(
        (
            f'label="{LINE_END.join(escaped(line) for line in lines if line)}"',
            f'fillcolor="{fill}"',
            f'color="{BORDERS.get(fate.what, BORDER)}"',
            f"tooltip={quoted(fate.why or layer.title)}",
        )
    )


def quoted(text: str) -> str:
    """Return a string of that language."""
    return f'"{escaped(text)}"'


def escaped(text: str) -> str:
    """Return text as it may stand in one: there only quotes have a meaning, and a backslash begins
    an escape. https://graphviz.org/doc/info/lang.html, attribute type escString."""
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')
