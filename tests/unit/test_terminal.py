"""Columns and colours."""

from __future__ import annotations

import io

from rich.console import Console

from finalstage.cli import sizes, terminal

HEAD = ("name", "size", "note")
ROWS = [[("a", "red"), ("1", ""), ("", "")], [("日本", ""), ("200", ""), ("", "")]]


def to(width: int, colours: bool = True) -> Console:
    """A terminal."""
    system = "standard" if colours else None
    return Console(file=io.StringIO(), force_terminal=True, color_system=system, width=width)  # type: ignore[arg-type]


def test_columns_are_as_wide_as_they_need_and_empty_ones_are_left_out() -> None:
    out = terminal.console(io.StringIO())
    assert terminal.columns(out, HEAD, ROWS, ("size",)).split("\n") == [
        "name  size",
        "a        1",
        "日本   200",
    ]


def test_a_row_of_one_cell_takes_no_room_from_the_others() -> None:
    rows = [*ROWS, [("a long tale", ""), ("", ""), ("", "")]]
    out = terminal.console(io.StringIO())
    assert terminal.columns(out, HEAD, rows, ("size",)).split("\n")[2:] == [
        "日本   200",
        "a long tale",
    ]


def test_words_are_wrapped_for_a_terminal_alone() -> None:
    assert terminal.wrapped(to(50), "word " * 20) == ["word " * 9 + "word"] * 2
    assert terminal.wrapped(terminal.console(io.StringIO()), "word " * 20) == ["word " * 20]


def test_a_line_ends_at_the_edge_of_a_terminal() -> None:
    rows = [[("x" * 60, ""), ("y", ""), ("", "")]]
    lines = terminal.columns(to(50, False), HEAD, rows).split("\n")
    assert lines[1] == "x" * 49 + "…" and len(lines[0]) == 50


def test_one_that_just_fits_is_whole() -> None:
    rows = [[("x" * 47, ""), ("y", ""), ("", "")]]
    assert terminal.columns(to(50, False), ("", "", ""), rows).split("\n")[1] == f"{'x' * 47}  y"


def test_colours_are_around_words_alone() -> None:
    assert "\x1b[31ma\x1b[0m " in terminal.columns(to(80), HEAD, ROWS)
    assert "\x1b" not in terminal.columns(to(80, False), HEAD, ROWS)


def test_sizes_have_about_three_digits() -> None:
    wanted = {None: "", 0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 280 << 20: "280 MiB"}
    wanted |= {1 << 40: "1 TiB", 3 << 70: "3072 EiB"}
    assert {size: sizes.shown(size) for size in wanted} == wanted
