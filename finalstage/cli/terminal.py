"""What people see in a terminal: colours where it has them, columns, and a width that fits."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style

Cell = tuple[str, str]
"""Words, and their style in rich's words, such as ``bold red``; "" for none."""

NARROWEST = 40
GAP = "  "


def console(file: TextIO | None = None) -> Console:
    """Return rich's console of a stream, by default of standard output, for its tables and trees.

    It knows whether that is a terminal, what colours it has, and NO_COLOR. What is no terminal gets
    lines as long as they need.
    """
    found = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = sys.maxsize >> 32
    return found


def painter(out: Console) -> Callable[[str, str], str]:
    """Return how words get a style on a console; as they are where it has no colours."""

    @cache
    def around(style: str) -> tuple[str, str]:
        with out.capture() as captured:
            out.print("|", style=Style.parse(style), end="")
        before, _, after = captured.get().partition("|")
        return before, after

    def paint(words: str, style: str) -> str:
        if not style or not words.strip() or out.color_system is None:
            return words
        before, after = around(style)
        return f"{before}{words}{after}"

    return paint


def columns(
    out: Console, head: Sequence[str], rows: Iterable[Sequence[Cell]], right: Iterable[str] = ()
) -> str:
    """Return rows below a head, as ps(1) and lsblk(8) show them: each column as wide as it needs,
    those named in `right` at its right edge, empty ones left out. A row that has only its first
    cell may be longer. A terminal's lines are cut at its edge.

    rich has tables, but measures each cell several times: of 1,000 rows, half a second. So this
    only takes from it how wide words are, and colours.
    """
    paint = painter(out)
    table = [[(name, "bold") for name in head], *(list(row) for row in rows)]
    whole = [row for row in table if any(words for words, _ in row[1:])]
    widths = [max(cell_len(row[at][0]) for row in whole) for at in range(len(head))]
    used = [at for at in range(len(head)) if any(row[at][0] for row in table[1:])]
    at_right = {at for at in used if head[at] in set(right)}
    most = max(out.width, NARROWEST) if out.is_terminal else 0
    return "\n".join(
        _line([(row[at], widths[at], at in at_right) for at in used], paint, most) for row in table
    )


def wrapped(out: Console, words: str) -> list[str]:
    """Return words as lines that fit a terminal, and of what is none as one."""
    return textwrap.wrap(words, max(out.width, NARROWEST)) if out.is_terminal else [words]


def _line(cells: list[tuple[Cell, int, bool]], paint: Callable[[str, str], str], most: int) -> str:
    """Return one line of at most so many columns, without spaces at its end; 0 is no bound."""
    pieces: list[Cell] = []
    for number, ((words, style), width, at_right) in enumerate(cells):
        space = " " * max(width - cell_len(words), 0)
        gap = GAP if number else ""
        pieces += [(gap + space, ""), (words, style)] if at_right else [(gap, ""), (words, style)]
        if not at_right:
            pieces.append((space, ""))
    while pieces and not pieces[-1][0].strip():
        pieces.pop()
    size = sum(cell_len(words) for words, _ in pieces)
    left = most - 1 if 0 < most < size else size
    line = ""
    for words, style in pieces:
        if cell_len(words) > left:
            return line + paint(set_cell_size(words, left) + "…", style)
        line, left = line + paint(words, style), left - cell_len(words)
    return line
