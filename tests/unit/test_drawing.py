"""Stacks as trees in text: each layer once in full, nothing left out, no circle without an end."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finalstage import drawing
from finalstage.stack import Layer, Stack


def layer(id: str, *below: str) -> Layer:
    """Return a layer that is called by its id."""
    return Layer(id=id, kind="dm", type="dm", name=id, below=below)


def lines(*layers: Layer) -> list[str]:
    """Draw a stack."""
    return drawing.draw(Stack(layers=layers)).splitlines()


def test_nothing_of_an_empty_stack() -> None:
    assert drawing.draw(Stack(layers=())) == ""


def test_from_the_disks_up() -> None:
    assert lines(
        layer("a"),
        layer("b"),
        layer("array", "a", "b"),
        layer("crypt", "array"),
        layer("root", "crypt"),
        layer("swap", "crypt"),
        layer("/", "root"),
        layer("home", "crypt"),
        layer("/home", "/", "home"),
    ) == [
        "dm a",
        "`-dm array (see dm b)",
        "dm b",
        "`-dm array",
        "  `-dm crypt",
        "    |-dm root",
        "    | `-dm /",
        "    |   `-dm /home (see dm home)",
        "    |-dm swap",
        "    `-dm home",
        "      `-dm /home",
    ]


def test_with_lines_that_meet() -> None:
    stack = Stack(layers=(layer("a"), layer("b", "a"), layer("c", "b"), layer("d", "a")))
    assert drawing.draw(stack, drawing.UNICODE) == "dm a\n├─dm b\n│ └─dm c\n└─dm d\n"


def test_a_circle_is_drawn_once() -> None:
    assert lines(layer("disk"), layer("loop", "disk", "mount"), layer("mount", "loop")) == [
        "dm disk",
        "`-dm loop (see dm mount)",
        "dm loop (stands on itself)",
        "`-dm mount",
        "  `-dm loop (see above)",
    ]


def test_what_stands_on_itself_alone() -> None:
    assert lines(layer("a", "a")) == ["dm a", "`-dm a (see above)"]


def test_what_is_not_there_is_not_drawn() -> None:
    assert lines(layer("a", "gone")) == ["dm a"]


def test_control_characters_do_not_reach_a_terminal() -> None:
    (line,) = lines(layer("a\n\x1b[2J"))
    assert line == r"dm a\n\x1b[2J"


def test_a_high_stack_stays_narrow() -> None:
    found = lines(layer("0"), *(layer(str(n), str(n - 1)) for n in range(1, 60)))
    assert max(map(len, found)) < 80
    assert found[23].endswith("`-dm 23")
    assert found[24].endswith("`-dm 24 (goes on below)")
    assert found[25:27] == ["dm 24 (goes on)", "`-dm 25"]


def test_only_what_something_stands_on() -> None:
    stack = Stack(layers=(layer("a"), layer("b", "a"), layer("c", "b"), layer("d", "a")))
    assert drawing.draw(drawing.below(stack, ["b"])) == "dm a\n`-dm b\n"


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=30))
def test_every_layer_is_drawn_in_full_once_and_every_edge_is_there(edges: list[list[int]]) -> None:
    layers = [layer(str(n), *map(str, below)) for n, below in enumerate(edges)]
    found = lines(*layers)
    bare = [line.lstrip("`-| ") for line in found]
    full = [line.split(" (")[0] for line in bare if "(see" not in line and "(goes on)" not in line]
    assert sorted(full) == sorted(each.title for each in layers)
    there = {each.id for each in layers}
    count = sum(len({lower for lower in each.below if lower in there}) for each in layers)
    assert sum(line[:1] in "`| " for line in found) == count


@pytest.mark.parametrize("shape", ["chain", "wide", "mesh"])
def test_large_stacks_take_time_in_proportion(shape: str) -> None:
    def one(n: int) -> Layer:
        below = {"chain": (n - 1,), "wide": (0,), "mesh": (n - 1, n - 2, n // 2)}[shape]
        return layer(str(n), *map(str, below))

    def seconds(count: int) -> float:
        stack = Stack(layers=tuple(one(n) for n in range(count)))
        started = time.process_time()
        drawing.draw(stack)
        return time.process_time() - started

    seconds(1_000)
    assert seconds(40_000) < 30 * max(seconds(4_000), 0.004)
