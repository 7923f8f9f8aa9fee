"""Small drawings as SVG: boxes, lines and words, in the order in which they are added."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

LETTER = 0.56
"""Width of a letter, as a share of the size of the font, on average."""

BOLD = 1.1
"""How much wider a bold one is."""

INK, FAINT, PAPER = "#24292f", "#8c959f", "#ffffff"


def width(words: str, size: float) -> float:
    """About how wide words are."""
    return len(words) * LETTER * size


def cut(words: str, size: float, room: float, front: bool = False) -> str:
    """Return words as far as they fit into so much room, cut at their end or their front."""
    most = max(int(room / (LETTER * size)), 1)
    if len(words) <= most:
        return words
    return f"…{words[1 - most :]}" if front and most > 1 else f"{words[: most - 1]}…"


class Drawing:
    """A drawing of so many pixels."""

    def __init__(self, width: float, height: float, title: str, style: str = "") -> None:
        """`style` is a style sheet, for classes that parts are given; what it does not say stands
        at each part."""
        self._width, self._height = width, height
        self._parts = [f"<title>{escape(title)}</title>"]
        self._parts += [f"<style>{escape(style)}</style>"] if style else []
        self.box(0, 0, width, height, PAPER, look="paper")

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        colour: str,
        hint: str = "",
        *,
        radius: float = 0,
        border: str = "",
        dashed: bool = False,
        look: str = "",
    ) -> None:
        """Add a filled box; `hint` is shown where the mouse rests on it. `look` is its class."""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        place += f' rx="{radius:g}"' if radius else ""
        place += f" stroke={quoteattr(border)}" if border else ""
        place += ' stroke-width="2" stroke-dasharray="5 3"' if dashed else ""
        inner = f"><title>{escape(hint)}</title></rect>" if hint else "/>"
        self._parts.append(f"<rect {place} fill={quoteattr(colour)}{_class(look)}{inner}")

    def path(
        self, steps: str, colour: str, *, width: float = 0, dotted: bool = False, look: str = ""
    ) -> None:
        """Add a path in SVG's own words, as a line of some width, or filled where that is 0."""
        paint = f"fill={quoteattr(colour)}"
        if width:
            paint = f'fill="none" stroke={quoteattr(colour)} stroke-width="{width:g}"'
            paint += ' stroke-dasharray="2 4"' if dotted else ""
        self._parts.append(f"<path d={quoteattr(steps)} {paint}{_class(look)}/>")

    def circle(self, x: float, y: float, radius: float, colour: str, look: str = "") -> None:
        """Add a filled circle."""
        place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
        self._parts.append(f"<circle {place} fill={quoteattr(colour)}{_class(look)}/>")

    def begin(self, opacity: float) -> None:
        """Begin a group of parts that are seen through."""
        self._parts.append(f'<g opacity="{opacity:g}">')

    def end(self) -> None:
        """End it."""
        self._parts.append("</g>")

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
        look: str = "",
    ) -> None:
        """Add words whose base line begins, ends or has its middle at a point."""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"'
        weight = (' font-weight="bold"' if bold else "") + _class(look)
        self._parts.append(f"<text {place} fill={quoteattr(colour)}{weight}>{escape(words)}</text>")

    def text(self) -> str:
        """The whole as a file's text."""
        size = f'width="{self._width:.0f}" height="{self._height:.0f}"'
        view = f'viewBox="0 0 {self._width:.0f} {self._height:.0f}"'
        font = 'font-family="system-ui, Helvetica, Arial, sans-serif"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} {font}>'
        return "\n".join((head, *self._parts, "</svg>\n"))


def _class(look: str) -> str:
    return f" class={quoteattr(look)}" if look else ""


def step(most: float, count: int = 5) -> float:
    """A round distance between the marks of an axis up to `most`, with at most `count` of them."""
    size = 1.0
    while size > most / count:
        size /= 10
    while size < most / count:
        size *= 10
    return next(size * part for part in (0.1, 0.2, 0.5, 1) if size * part >= most / count)
