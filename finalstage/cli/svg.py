"""Small drawings as SVG: boxes, lines and words, in the order in which they are added."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

LETTER = 0.56
"""Width of a letter, as a share of the size of the font, on average."""

INK, FAINT, PAPER = "#24292f", "#8c959f", "#ffffff"


def width(words: str, size: float) -> float:
    """About how wide words are."""
    return len(words) * LETTER * size


class Drawing:
    """A drawing of so many pixels."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self._width, self._height = width, height
        self._parts = [f"<title>{escape(title)}</title>"]
        self.box(0, 0, width, height, PAPER)

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, hint: str = ""
    ) -> None:
        """Add a filled box; `hint` is shown where the mouse rests on it."""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        inner = f"><title>{escape(hint)}</title></rect>" if hint else "/>"
        self._parts.append(f"<rect {place} fill={quoteattr(colour)}{inner}")

    def line(self, x: float, y: float, to_x: float, to_y: float, colour: str = FAINT) -> None:
        """Add a thin line."""
        ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
        self._parts.append(f'<line {ends} stroke={quoteattr(colour)} stroke-width="0.6"/>')

    def words(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 12,
        anchor: str = "start",
        colour: str = INK,
        bold: bool = False,
    ) -> None:
        """Add words whose base line begins, ends or has its middle at a point."""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"'
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(f"<text {place} fill={quoteattr(colour)}{weight}>{escape(words)}</text>")

    def text(self) -> str:
        """The whole as a file's text."""
        size = f'width="{self._width:.0f}" height="{self._height:.0f}"'
        view = f'viewBox="0 0 {self._width:.0f} {self._height:.0f}"'
        font = 'font-family="system-ui, Helvetica, Arial, sans-serif"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} {font}>'
        return "\n".join((head, *self._parts, "</svg>\n"))


def step(most: float, count: int = 5) -> float:
    """A round distance between the marks of an axis up to `most`, with at most `count` of them."""
    size = 1.0
    while size > most / count:
        size /= 10
    while size < most / count:
        size *= 10
    return next(size * part for part in (0.1, 0.2, 0.5, 1) if size * part >= most / count)
