"""Machines that have booted by an initramfs with finalstage in it, and go down by systemd."""

from __future__ import annotations

import pytest

from tests.vm.builders import BUILDERS
from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.rows import Row
from tests.vm.stacks import booted_by

CLOSED = Expected(says=("remaining 0, keys left 0",))


def down(builder: str, path: str, verb: str = "poweroff", **fields: str) -> Row:
    """A row: nothing is staged but what the initramfs has brought."""
    stack = booted_by(builder, BUILDERS[builder].command_line)
    return Row(f"{builder}: {path}", stack, path, verb, staging="", expected=CLOSED)


ROWS = [
    down("dracut", "systemctl poweroff"),
    down("initramfs-tools", "systemctl poweroff"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_everything(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"
