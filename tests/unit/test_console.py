"""Lines for people and records for machines."""

import json

import pytest

from finalstage.console import to_json


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1.5, "", 'a"b\\c\n\x00\x7f', "ü€𝄞", [], [1, ["x"]],
        {"a": {"b": None}}, {"1": "\udcff"},
    ],
)  # fmt: skip
def test_json_is_what_the_json_module_reads(value: object) -> None:
    assert json.loads(to_json(value)) == value
