"""Places the layers of a stack in the plane: disks at the bottom, what lies on them above, few
lines that cross.

That is the usual way for such graphs, in four steps: a level for each; on long edges a bend at each
level between; in each level an order by the mean of the neighbours' places (barycentres), to and
fro until it gets no better; at last places as near to those of the neighbours as there is room.
See Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System
Structures", 1981.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from finalstage.stack import Stack

SWEEPS, SETTLINGS, BOTH_WAYS = 10, 6, 24
BEND = 0.3
"""How wide the bend of an edge is, as a share of a box."""

GAP = 0.14
"""How much is free between two boxes of a level, at least."""

Node = str | tuple[str, str, int]
"""A layer by its id, or the bend of an edge: upper id, lower id, level."""


@dataclass
class Part:
    """Layers that belong together, placed. `at` are the middles, in boxes from the left, and
    `level` counts from the bottom. `routes` are the nodes that each edge passes, from its upper
    layer to its lower one. `back` are the edges that close a circle: they go up."""

    level: dict[Node, int]
    at: dict[Node, float] = field(default_factory=dict)
    routes: list[list[Node]] = field(default_factory=list)
    back: list[tuple[str, str]] = field(default_factory=list)

    @property
    def width(self) -> float:
        """From the left edge of the first box to the right edge of the last one."""
        return max(x + _width(node) / 2 for node, x in self.at.items())

    @property
    def height(self) -> int:
        """Number of levels."""
        return max(self.level.values()) + 1


def _width(node: Node) -> float:
    return 1.0 if isinstance(node, str) else BEND


def place(stack: Stack) -> list[Part]:
    """Return the parts of a stack that have nothing to do with one another, each placed, the
    largest first. What is only mounted on another layer does not lie on it."""
    below = {
        layer.id: [
            id for id in dict.fromkeys(layer.below) if id in stack.by_id and id not in layer.places
        ]
        for layer in stack.layers
    }
    level, back = _levels(below)
    parts = [_placed({id: below[id] for id in ids}, level, back) for ids in _parts(below)]
    return sorted(parts, key=lambda part: -len(part.at))


def _levels(below: Mapping[str, Sequence[str]]) -> tuple[dict[str, int], set[tuple[str, str]]]:
    """Return how many layers are below each, at most, and the edges that close circles, which do
    not count."""
    found: dict[str, int] = {}
    open: set[str] = set()
    back: set[tuple[str, str]] = set()
    for start in below:
        todo = [start]
        while todo:
            id = todo[-1]
            if id in open or id in found:
                todo.pop()
                if id in open:
                    open.remove(id)
                    found[id] = max(
                        (found[lower] + 1 for lower in below[id] if (id, lower) not in back),
                        default=0,
                    )
                continue
            open.add(id)
            back |= {(id, lower) for lower in below[id] if lower in open}
            todo += [lower for lower in below[id] if lower not in found and lower not in open]
    return found, back


def _parts(below: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the ids of what is connected, in the order in which they stand there."""
    beside: dict[str, list[str]] = {id: list(ids) for id, ids in below.items()}
    for id, ids in below.items():
        for lower in ids:
            beside[lower].append(id)
    found, seen = [], set[str]()
    for start in below:
        if start in seen:
            continue
        part, todo = set[str](), [start]
        while todo:
            id = todo.pop()
            if id not in part:
                part.add(id)
                todo += beside[id]
        seen |= part
        found.append([id for id in below if id in part])
    return found


def _placed(
    below: Mapping[str, Sequence[str]], level_of: Mapping[str, int], back: set[tuple[str, str]]
) -> Part:
    part = Part({id: level_of[id] for id in below})
    upper: dict[Node, list[Node]] = {id: [] for id in below}
    lower: dict[Node, list[Node]] = {id: [] for id in below}
    for id, ids in below.items():
        for end in ids:
            if (id, end) in back:
                part.back.append((id, end))
                continue
            route: list[Node] = [id]
            for level in range(level_of[id] - 1, level_of[end], -1):
                bend = (id, end, level)
                part.level[bend] = level
                upper[bend], lower[bend] = [], []
                route.append(bend)
            route.append(end)
            part.routes.append(route)
            for one, next in pairwise(route):
                lower[one].append(next)
                upper[next].append(one)
    rows: list[list[Node]] = [[] for _ in range(part.height)]
    for node in _along(part, upper, lower):
        rows[part.level[node]].append(node)
    rows = _ordered(rows, upper, lower)
    _settle(part, rows, upper, lower)
    return part


def _along(
    part: Part, upper: Mapping[Node, list[Node]], lower: Mapping[Node, list[Node]]
) -> Iterable[Node]:
    """Yield all nodes, each branch as a whole before the next one, from one at the rim on: of what
    can be drawn without crossings that is the order."""
    seen: set[Node] = set()
    bottom = [node for node, level in part.level.items() if level == 0]
    todo = sorted(bottom, key=lambda node: len(upper[node]), reverse=True)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            yield node
            todo += [*reversed(lower[node]), *reversed(upper[node])]


def _ordered(
    rows: list[list[Node]],
    upper: Mapping[Node, list[Node]],
    lower: Mapping[Node, list[Node]],
) -> list[list[Node]]:
    """Return the levels in an order with few crossings, the best that was met."""
    best, fewest = rows, _crossings(rows, lower)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        rows = [list(row) for row in rows]
        upwards = sweep % 2 == 0
        near = lower if upwards else upper
        for level in range(len(rows)) if upwards else reversed(range(len(rows))):
            beside = level - 1 if upwards else level + 1
            if 0 <= beside < len(rows):
                place = {node: at for at, node in enumerate(rows[beside])}
                own = {node: at for at, node in enumerate(rows[level])}
                mean = {node: _mean([place[n] for n in near[node]], own[node]) for node in own}
                rows[level].sort(key=mean.__getitem__)
        count = _crossings(rows, lower)
        if count < fewest:
            best, fewest = rows, count
    return best


def _mean(places: Sequence[float], otherwise: float) -> float:
    return sum(places) / len(places) if places else otherwise


def _crossings(rows: list[list[Node]], lower: Mapping[Node, list[Node]]) -> int:
    """Count how often lines cross."""
    count = 0
    for row, beneath in zip(rows[1:], rows, strict=False):
        place = {node: at for at, node in enumerate(beneath)}
        ends: list[int] = []
        for node in row:
            targets = sorted(place[end] for end in lower[node])
            count += sum(len(ends) - bisect_right(ends, end) for end in targets)
            for end in targets:
                insort(ends, end)
    return count


def _settle(
    part: Part,
    rows: list[list[Node]],
    upper: Mapping[Node, list[Node]],
    lower: Mapping[Node, list[Node]],
) -> None:
    """Give each node its place, near to its neighbours', in the order of its level."""
    at = part.at
    for row in rows:
        at.update(_spread(row, [0.0] * len(row)))
    for turn in range(SETTLINGS + BOTH_WAYS):
        for row in rows if turn % 2 else reversed(rows):
            wanted = []
            for node in row:
                near = lower[node] if turn % 2 else upper[node]
                if turn >= SETTLINGS:
                    near = _straight(node, upper, lower) or [*upper[node], *lower[node]]
                wanted.append(_mean([at[each] for each in near], at[node]))
            at.update(_spread(row, wanted))
    left = min(x - _width(node) / 2 for node, x in at.items())
    for node in at:
        at[node] -= left


def _straight(
    node: Node, upper: Mapping[Node, list[Node]], lower: Mapping[Node, list[Node]]
) -> list[Node]:
    """Return what a node should be straight above or below: what it has to itself."""
    alone = [each for each in lower[node] if len(lower[node]) == 1 == len(upper[each])]
    return alone + [each for each in upper[node] if len(upper[node]) == 1 == len(lower[each])]


def _spread(row: Sequence[Node], wanted: Sequence[float]) -> dict[Node, float]:
    """Return the places in a row that are nearest to what is wanted, in the sum of squares, and
    leave room for each box.

    Without the room that each takes up they only have to rise; those that would not are put
    together at their mean, until they do (pool adjacent violators).
    """
    room = [0.0]
    for one, next in pairwise(row):
        room.append(room[-1] + (_width(one) + _width(next)) / 2 + GAP)
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wanted, room, strict=True):
        mean, count = want - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, size = blocks.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        blocks.append((mean, count))
    places = [mean for mean, count in blocks for _ in range(count)]
    return {node: mean + offset for node, mean, offset in zip(row, places, room, strict=True)}
