"""Graph to plan: what waits for what, in how many rounds."""

from __future__ import annotations

from finalstage.plan import plan
from finalstage.stack import Layer, Stack, circles, covering


def stack(**below: str) -> Stack:
    """Return a stack of layers that are named by letters; upper case ones do not close."""
    return Stack(
        layers=tuple(
            Layer(
                id=name, kind="dm", type="t", name=name, below=tuple(lower), closes=name.islower()
            )
            for name, lower in below.items()
        )
    )


def rounds(stack: Stack) -> list[str]:
    """Return the plan's rounds as words."""
    return ["".join(sorted(step.layer.id for step in part)) for part in plan(stack).rounds()]


def test_chain() -> None:
    assert rounds(stack(a="b", b="c", c="D", D="")) == ["a", "b", "c", "D"]


def test_order_of_the_scan_does_not_matter() -> None:
    assert rounds(stack(D="", c="D", b="c", a="b")) == ["a", "b", "c", "D"]


def test_diamond_waits_for_the_longest_way() -> None:
    assert rounds(stack(a="bd", b="c", c="d", d="E", E="")) == ["a", "b", "c", "d", "E"]


def test_independent_stacks_run_side_by_side() -> None:
    assert rounds(stack(a="b", b="C", C="", x="Y", Y="")) == ["ax", "Yb", "C"]


def test_rounds_are_the_depth_of_the_graph() -> None:
    wide = stack(**dict.fromkeys("abcdefgh", "z"), z="")
    assert rounds(wide) == ["abcdefgh", "z"]
    assert max(wide.depths.values()) == 1


def test_disks_that_nothing_stood_on_are_left_alone() -> None:
    assert rounds(stack(a="B", B="", X="")) == ["a", "B"]


def test_partitions_of_what_closes_are_flushed_before() -> None:
    assert rounds(stack(P="a", Q="a", a="D", D="")) == ["PQ", "a", "D"]


def test_partitions_of_a_disk_that_goes_with_its_controller_are_flushed_before() -> None:
    assert rounds(stack(P="N", Q="N", N="c", c="")) == ["PQ", "N", "c"]


def test_what_is_kept_is_no_step_and_nobody_waits_for_it() -> None:
    some = plan(stack(a="b", b="c", r="cs", s="c", c="D", D="", x="D"), keep={"r", "c", "D"})
    assert sorted((step.layer.id, step.after) for step in some.steps) == [
        ("a", ()),
        ("b", ("a",)),
        ("s", ()),
        ("x", ()),
    ]
    assert [layer.id for layer in some.kept] == ["r", "c", "D"]


def test_a_disk_does_not_wait_for_a_partition_that_nothing_stands_on() -> None:
    made = plan(stack(a="P", P="D", Q="D", D=""))
    assert [(step.layer.id, step.after) for step in made.steps] == [
        ("a", ()), ("P", ("a",)), ("D", ("P",)),
    ]  # fmt: skip


def test_what_stands_on_another_in_two_ways_is_waited_for_once() -> None:
    made = plan(stack(a="bb", b="D", D=""))
    assert [(step.layer.id, step.after) for step in made.steps] == [
        ("a", ()), ("b", ("a",)), ("D", ("b",)),
    ]  # fmt: skip
    assert rounds(stack(a="bb", d="c", c="b", b="D", D="")) == ["ad", "c", "b", "D"]


def test_missing_layers_below_are_no_reason_to_wait() -> None:
    assert rounds(stack(a="?b", b="")) == ["a", "b"]


def test_circle_comes_last_and_does_not_wait_for_itself() -> None:
    made = plan(stack(top="", a="b", b="a"))
    steps = {step.layer.id: step.after for step in made.steps}
    assert steps == {"top": (), "a": (), "b": ()}
    assert made.steps[0].layer.id == "top"


def test_without_circles_they_and_what_is_below_are_left_out() -> None:
    made = plan(stack(top="", a="b", b="ac", c="D", D=""), circles=False)
    assert [step.layer.id for step in made.steps] == ["top"]


def test_circles_are_found_each_once_and_in_order() -> None:
    found = circles(stack(up="a", a="b", b="cx", c="a", x="", d="e", e="d", f="f", low="a"))
    assert ["".join(layer.id for layer in circle) for circle in found] == ["abc", "de", "f"]


def test_what_only_stands_on_a_circle_is_in_none() -> None:
    assert circles(stack(a="b", b="C", C="")) == []


def test_covering() -> None:
    assert covering(stack(a="bc", b="d", c="d", d="", x="d"), "b") == {"b", "d"}


def test_title_of_an_odd_name() -> None:
    layer = Layer(id="x", kind="dm", type="crypt", name="a\n\x1b[31m\udcff")
    assert layer.title == "crypt a\\n\\x1b[31m\\\\udcff"


def test_what_is_below_a_circle_waits_for_it() -> None:
    steps = {
        step.layer.id: step.after
        for step in plan(stack(top="a", a="b", b="ac", c="d", d="E", E="")).steps
    }
    assert steps == {"top": (), "a": ("top",), "b": (), "c": ("b",), "d": ("c",), "E": ("d",)}
