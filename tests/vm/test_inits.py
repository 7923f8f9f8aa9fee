"""Real root file systems with a real init: what becomes of them by that init's own commands."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.inits import alone, down
from tests.vm.rows import Row

ROWS = [
    down("systemd", "systemctl poweroff"),
    down("systemd", "systemctl reboot", "reboot"),
    down("systemd", "systemctl halt", "halt"),
    down("systemd", "systemctl poweroff", root="systemd-257"),
    down("systemd", "systemctl reboot", "reboot", root="systemd-257"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_everything(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


CONTROLS = [
    alone("systemd", "systemctl poweroff"),
    alone("systemd-257", "systemctl poweroff"),
    alone("sysvinit", "poweroff"),
    alone("busybox", "poweroff"),
    alone("openrc", "openrc-shutdown --poweroff now"),
    alone("runit", "poweroff"),
    alone("finit", "poweroff"),
]


@pytest.mark.parametrize("row", CONTROLS, ids=lambda row: row.slug)
def test_an_init_alone_leaves_the_key_in_ram(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert outcome.copies.halves >= 2
    assert not outcome.verdict.unclean
