"""Where layers are drawn: any stack, each in its place, none on another."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from finalstage.cli.plan import layering
from finalstage.cli.plan.layering import Part
from finalstage.stack import Layer, Stack


def layer(id: str, *below: str, places: tuple[str, ...] = ()) -> Layer:
    return Layer(id=id, kind="dm", type="dm", name=id, below=below, places=places)


def placed(*layers: Layer) -> list[Part]:
    return layering.place(Stack(layers))


def crossings(part: Part) -> int:
    """Count the lines of a part that cross, one by one."""
    lines = [
        (part.level[upper], part.at[upper], part.at[lower])
        for route in part.routes
        for upper, lower in pairwise(route)
    ]
    return sum(
        level == other and (x - other_x) * (end - other_end) < 0
        for at, (level, x, end) in enumerate(lines)
        for other, other_x, other_end in lines[:at]
    )


def test_a_chain_stands_straight() -> None:
    (part,) = placed(layer("a"), layer("b", "a"), layer("c", "b"))
    assert [part.level[id] for id in "abc"] == [0, 1, 2]
    assert len({part.at[id] for id in "abc"}) == 1


def test_what_has_nothing_to_do_with_one_another_is_placed_apart() -> None:
    parts = placed(layer("a"), layer("b", "a"), layer("c"))
    assert [sorted(map(str, part.at)) for part in parts] == [["a", "b"], ["c"]]


def test_what_is_only_mounted_on_another_layer_does_not_lie_on_it() -> None:
    parts = placed(layer("a"), layer("b", "a", places=("a",)))
    assert len(parts) == 2


def test_crossed_pairs_are_disentangled() -> None:
    layers = [layer(f"d{n}") for n in (3, 6, 1, 5, 0, 7, 2, 4)]
    layers += [layer(f"u{n}", f"d{7 - n}", f"d{(7 - n + 1) % 8}") for n in range(7)]
    (part,) = placed(*layers)
    assert crossings(part) == 0


def test_a_circle_is_placed_too() -> None:
    (part,) = placed(layer("disk"), layer("loop", "disk", "mount"), layer("mount", "loop"))
    ends = [(route[0], route[-1]) for route in part.routes] + list(part.back)
    assert sorted(ends) == [("loop", "disk"), ("loop", "mount"), ("mount", "loop")]
    assert len(part.back) == 1


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=30))
def test_any_stack(edges: list[list[int]]) -> None:
    """Each layer has one place, above all that it lies on; none covers another; each line is there
    and goes down level by level."""
    layers = [layer(str(n), *map(str, below)) for n, below in enumerate(edges)]
    parts = placed(*layers)
    assert sorted(node for part in parts for node in part.at if isinstance(node, str)) == sorted(
        each.id for each in layers
    )
    there = {each.id for each in layers}
    count = sum(len(there.intersection(each.below)) for each in layers)
    assert sum(len(part.routes) + len(part.back) for part in parts) == count
    for part in parts:
        for route in part.routes:
            levels = [part.level[node] for node in route]
            assert levels == list(range(levels[0], levels[-1] - 1, -1)) and len(levels) > 1
        for level in range(part.height):
            row = sorted(
                (x, node) for node, x in part.at.items() if part.level[node] == level
                and isinstance(node, str)
            )  # fmt: skip
            for (x, _), (beside, _) in pairwise(row):
                assert beside - x >= 1 + layering.GAP - 1e-9
        assert min(part.at.values()) >= 0
