"""The table of all rows at the end of a test session, workers of pytest-xdist included.

A conftest.py makes use of it by importing `pytest_terminal_summary`; several may.
"""

from __future__ import annotations

import json
from collections.abc import Container
from itertools import chain

import pytest
from rich.console import Console
from rich.table import Table

from tests.vm.cache import BUILD

PROPERTY = "vm row"
_PRINTED = pytest.StashKey[bool]()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what every row of this session found, and leave it as Markdown in .build/vm."""
    if config.stash.get(_PRINTED, False):
        return
    config.stash[_PRINTED] = True
    found: list[dict[str, str]] = []
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", None) == "call":
            found += [json.loads(text) for name, text in report.user_properties if name == PROPERTY]
    if not found:
        return
    found.sort(key=lambda row: (row["row"].startswith("control"), row["row"]))
    terminalreporter.section("machines that went down")
    terminalreporter.write(plain(found))
    (BUILD / "table.md").write_text(markdown(found))


def plain(rows: list[dict[str, str]], left: Container[str] = ("row", "end")) -> str:
    """Rows as a table for a console. The columns are those of the first one, some of them words."""
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, justify="left" if name in left else "right")
    for row in rows:
        table.add_row(*row.values())
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def markdown(rows: list[dict[str, str]]) -> str:
    """Rows as a table of Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
