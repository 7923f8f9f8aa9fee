"""Rows as a fixture, and the table of what they found at the end of a session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.vm import rows
from tests.vm.part import ALL
from tests.vm.rows import Outcome, Row
from tests.vm.table import PROPERTY, pytest_terminal_summary

__all__ = ["Happen", "happen", "pytest_terminal_summary"]

Happen = Callable[[Row], Outcome]
# So many lines of the console stand in the report of a row that failed: where it was somebody
# else's machine, nothing else is left of it. A panic with its registers and calls has some fifty.
LAST_WORDS = 80


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is only tried when all is: part.py."""
    left_out = [item for item in items if item.get_closest_marker("seldom") and not ALL]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def happen(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Happen]:
    """Lets a row happen, notes its result for the table, and clears up if the test passes."""
    outcomes: list[Outcome] = []

    def run(row: Row) -> Outcome:
        request.node.add_report_section("call", "row", f"all it left lies in {row.folder}")
        outcome = rows.perform(row)
        outcomes.append(outcome)
        if outcome.problems:
            last = outcome.console.replace("\r", "").splitlines()[-LAST_WORDS:]
            request.node.add_report_section("call", "console", "\n".join(last))
        record_property(PROPERTY, json.dumps(outcome.summary()))
        return outcome

    failed_before = request.session.testsfailed
    yield run
    if request.session.testsfailed == failed_before:
        for outcome in outcomes:
            rows.clear(outcome)
