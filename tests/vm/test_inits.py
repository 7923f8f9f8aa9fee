"""Real root file systems with a real init: what becomes of them by that init's own commands."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.inits import alone, down
from tests.vm.part import in_turn, seldom, whole
from tests.vm.rows import Row

ROWS = [
    down("systemd", "systemctl poweroff"),
    *seldom(
        down("systemd", "systemctl reboot", "reboot"),
        down("systemd", "systemctl halt", "halt"),
        down("systemd", "systemctl poweroff", root="systemd-257"),
        down("systemd", "systemctl reboot", "reboot", root="systemd-257"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_everything(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


CONTROLS = [
    alone("systemd", "systemctl poweroff"),
    *seldom(
        alone("systemd-257", "systemctl poweroff"),
        alone("sysvinit", "poweroff"),
        alone("busybox", "poweroff"),
        alone("openrc", "openrc-shutdown --poweroff now"),
        alone("runit", "poweroff"),
        alone("finit", "poweroff"),
    ),
]


@pytest.mark.parametrize("row", CONTROLS, ids=lambda row: row.slug)
def test_an_init_alone_leaves_the_key_in_ram(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert outcome.copies.halves >= 2
    assert not outcome.verdict.unclean


# All that a root file system has, but what changes by itself while a machine runs, and what insserv
# makes anew, in another order, for every script that comes or goes.
LISTING = """
find / -xdev '(' -path /var/log -o -path /var/lib/systemd -o -path /root ')' -prune -o \\
    -name '.depend.*' -o -type d -print -o -printf '%p %m %s %l\\n' | sort >/run/files.$1
(cd /etc; find . -type f ! -name '.depend.*' -exec sha256sum '{}' + | sort -k 2) >>/run/files.$1"""
UNINSTALLED = f"""
set -- after
/usr/local/sbin/finalstage uninstall
[ -z "$(grep finalstage /proc/mounts; grep -rl finalstage /etc)" ]
{LISTING}
diff /run/files.before /run/files.after"""


@whole
@pytest.mark.parametrize(
    "control",
    in_turn([control for control in CONTROLS if control.stack.name != "systemd-257"]),
    ids=lambda row: row.stack.name,
)
def test_what_is_uninstalled_has_left_no_trace(happen: Happen, control: Row) -> None:
    row = down(
        *(control.stack.name, control.path),
        name="installed and uninstalled",
        earlier=f"set -- before{LISTING}",
        before=(UNINSTALLED,),
        files=(),
    )
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert outcome.copies.halves >= 2
    assert not outcome.unclean + outcome.damaged
