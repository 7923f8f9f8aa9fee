"""Does the harness notice what it is there to notice? No finalstage is involved here."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.faults import freeze
from tests.vm.living import Living, live
from tests.vm.part import seldom
from tests.vm.rows import DIRTY_64M, ORACLE, REMOUNT, RETURN, SHOW_TABLE, STUBBORN, Row
from tests.vm.stacks import BUSES, IN_TABLE, MAIN, MAIN_BUSY, MD, PLAIN, WITHOUT_AES, on


@pytest.mark.parametrize(
    "row",
    [
        Row("control: remount", MAIN, REMOUNT, to=ORACLE),
        *seldom(
            Row("control: remount, reboot", MAIN, REMOUNT, "reboot", to=ORACLE),
            Row("control: remount, no AES instructions", WITHOUT_AES, REMOUNT, to=ORACLE),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_remounting_read_only_leaves_the_key_in_ram(happen: Happen, row: Row) -> None:
    """Both halves as keys of their own, and all that an AES context holds of each."""
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert outcome.copies.halves >= 2
    assert outcome.copies.round_keys >= 2 * (13 + 13)
    assert outcome.copies.plaintext
    assert not outcome.verdict.unclean


def test_a_table_that_was_asked_for_leaves_the_key_as_text(happen: Happen) -> None:
    """All that is left of it, once everything is closed."""
    tools = ("trouble",)
    outcome = happen(
        Row("control: table shown", IN_TABLE, before=(SHOW_TABLE,), to=ORACLE, tools=tools)
    )
    assert outcome.end.kind == "poweroff"
    assert outcome.copies.texts >= 2
    assert outcome.copies.texts == outcome.copies.of_keys


@pytest.mark.parametrize(
    "row",
    [
        Row("control: closed by heart", MAIN, to=ORACLE),
        *seldom(
            Row("control: by heart, return path", MAIN, RETURN, to=ORACLE),
            Row("control: by heart, reboot", MAIN, verb="reboot", to=ORACLE),
            Row("control: by heart, halt", MAIN, verb="halt", to=ORACLE),
            Row("control: by heart, NVMe and SCSI", BUSES, to=ORACLE),
            Row("control: by heart, one processor", on(MD, processors=1), to=ORACLE),
            Row("control: by heart, busy", MAIN_BUSY, before=(STUBBORN,), to=ORACLE),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_a_clean_close_is_seen_as_one(happen: Happen, row: Row) -> None:
    assert not happen(row).problems


def test_a_changed_byte_is_noticed(happen: Happen) -> None:
    change = "printf x | dd of=/data/old conv=notrunc seek=4711 bs=1 status=none"
    outcome = happen(Row("control: changed byte", MAIN, before=(change,), to=ORACLE))
    assert [line.split()[0] for line in outcome.problems] == ["/data/old"]


def test_a_missing_file_is_noticed(happen: Happen) -> None:
    outcome = happen(Row("control: missing file", MAIN, before=("rm /data/new",), to=ORACLE))
    assert outcome.problems[0].startswith("/data/new is unknown")


def test_a_file_system_that_was_never_unmounted_is_noticed(happen: Happen) -> None:
    at_once = "echo b >/proc/sysrq-trigger"
    row = Row("control: reset", MAIN, at_once, "reboot", files=DIRTY_64M, to=ORACLE)
    outcome = happen(row)
    assert outcome.end.kind == "reboot"
    assert "ext4:/ needs_recovery is 1, not 0" in outcome.verdict.unclean
    assert set(outcome.flushes.values()) == {0}
    assert {line.split()[0] for line in outcome.verdict.damaged} == {
        each.path for each in row.files
    }


def test_a_lost_raid_member_is_noticed(happen: Happen) -> None:
    lose = "echo faulty >/sys/block/md0/md/dev-$(basename $(readlink /dev/disk/b))/state; sync"
    outcome = happen(Row("control: lost member", MD, before=(lose,), to=ORACLE))
    assert "md0 event-counts is 2, not 1" in outcome.verdict.unclean


def test_a_panic_is_no_reboot(happen: Happen) -> None:
    outcome = happen(Row("control: panic", MAIN, "exec false", "reboot", to=ORACLE))
    assert outcome.end.kind == "panic"


def test_a_frozen_disk_is_frozen(happen: Happen) -> None:
    row = Row("control: frozen disk", MD, faults=(freeze("a"),), to=ORACLE, deadline=10)
    outcome = happen(row)
    assert outcome.end.kind == "deadline"
    assert "task:umount" in (row.folder / "console.log").read_text()


def test_a_machine_that_stays_up_is_noticed(happen: Happen) -> None:
    outcome = happen(Row("control: stays up", MAIN, "exec sleep 999", to=ORACLE, deadline=2))
    assert outcome.end.kind == "deadline"


def test_no_order_is_lost_while_orphans_die() -> None:
    """PID 1, a shell, is told of the death of each."""
    orphans = "for i in $(seq 150); do (sleep 0.$((i % 90 + 10)) &); done"
    long = "x" * 500

    async def act(living: Living) -> None:
        await living.run(orphans)
        for number in range(40):
            assert await living.run(f"# {long}\necho {number} {long}") == f"{number} {long}\n"

    live(PLAIN, act)
