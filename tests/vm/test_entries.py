"""Every way in: where the tree lies, who executes it, and what was asked for."""

from __future__ import annotations

import json
import re

import pytest

from tests.vm.cache import PROJECT
from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.guest import guest
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, IN_PLACE, NO_PROC, RETURN, Row
from tests.vm.stacks import MAIN, rooted
from tests.vm.states import INITRAMFS

TOOL = PROJECT / "dist" / "finalstage"
ON_ROOT = "mkdir -p /opt; cp -a /run/tray/tree /opt/tree"
BY_TOOL = "cd /bin; cp /run/tray/finalstage .; chmod 755 finalstage; finalstage stage; cd /"
# As on a kernel that has the system calls of Linux 3.2; a file of the old root is left open, too.
OLDER = "exec 9</data/old; exec /run/older 312 /run/initramfs/shutdown {verb}"
AS_CHILD = "exec sh -c '/run/initramfs/shutdown {verb}; sleep 9999'"
# What a storage daemon looks like.
DAEMON = "(exec -a @daemon /run/holder /data/held) &"
PARAMETER = "mkdir -p /run/systemd; echo recovery >/run/systemd/reboot-param"
HELD = Expected(says=("remains ext4 /: busy", "wiped the key of crypt crypt", "keys left 0"))
HELD_BY_DAEMON = Expected(says=(*HELD.says, "(open file)"))

ROWS = [
    *seldom(
        Row("root is an initramfs", rooted(MAIN, INITRAMFS)),
        Row("root is an initramfs, no /proc", rooted(MAIN, INITRAMFS), before=(NO_PROC,)),
        Row("the tree lies on the root", MAIN, "exec /opt/tree/shutdown {verb}", staging=ON_ROOT),
    ),
    Row(
        "staged by finalstage stage",
        MAIN,
        staging=BY_TOOL,
        programs=(TOOL,),
    ),
    *seldom(
        Row(
            "in place of systemd-shutdown, newer",
            rooted(MAIN, "newer-glibc"),
            RETURN,
            "reboot",
            before=(IN_PLACE, NO_PROC),
        )
    ),
    Row(
        "system calls of Linux 3.2",
        MAIN,
        OLDER,
        tools=("older",),
        expected=Expected(says=("remaining 0, keys left 0",)),
    ),
    Row(
        "a child of PID 1",
        MAIN,
        AS_CHILD,
        expected=Expected(says=("not started by PID 1", *HELD.says)),
    ),
    Row(
        "a storage daemon holds root",
        MAIN,
        before=(DAEMON,),
        tools=("holder",),
        expected=HELD_BY_DAEMON,
    ),
    Row(
        "reboot with a parameter",
        MAIN,
        verb="reboot",
        before=(PARAMETER,),
        expected=Expected(says=("Restarting system with command 'recovery'",)),
    ),
    Row(
        "kexec",
        MAIN,
        verb="kexec",
        ends_by="panic",  # of the new kernel, which finds no root
        before=("/run/kexec /run/vmlinuz",),
        tools=("kexec",),
        programs=(guest().kernel,),
        expected=Expected(says=("Linux version",)),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_enters_and_closes(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


def test_takes_little_memory(happen: Happen) -> None:
    """The summary's record says how much: at most 24 MB, with everything locked."""
    show_records = "echo 8 >/proc/sys/kernel/printk"
    outcome = happen(Row("peak memory", MAIN, DIRECT, before=(show_records,)))
    (summary,) = re.findall(r'finalstage: (\{.*"event": "summary".*\})', outcome.console)
    assert 5_000 < json.loads(summary)["peak_kib"] <= 24_000_000 // 1024
