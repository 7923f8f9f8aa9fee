"""Plaintext and keys in memory that was freed, each with a control that finds it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.vm.conftest import Happen
from tests.vm.part import seldom, whole
from tests.vm.rows import DIRECT, DIRTY_64M, ORACLE, RETURN, SHOW_TABLE, STUBBORN, Row
from tests.vm.stacks import IN_TABLE, LUKS, MAIN, MAIN_BUSY, Stack, on

HUNDREDS = 100
# On two processors most of the memory is overwritten while all is closed, if that takes some time.
WIDE = on(MAIN, processors=2)
BUSY = on(MAIN_BUSY, processors=2)
CLEARING = on(MAIN, command_line="init_on_free=1")
# Too little time for all: it ends when it should, says so, and kills nobody.
BOUNDED = "/run/initramfs/finalstage --scrub 0.1 | grep '^part [0-9][0-9]*$'"
FULL = """
mount -t tmpfs -o size=100% tmpfs /mnt
for i in $(seq 390); do cat /data/new-secret; done >/mnt/file"""
PANICKY = "echo 1 >/proc/sys/vm/panic_on_oom"
# Looks like a storage daemon, and so is there when memory is exhausted.
HUNGRY = "(exec -a @hungry /run/trouble hunger)"
LAST = re.compile(r"overwrote all free memory, at last (\d+) MiB")


def begun_early(row: Row, console: str) -> bool:
    """Whether most of the memory had been overwritten when all was closed."""
    found = LAST.search(console)
    assert found, console
    return int(found[1]) < row.stack.hardware.memory // 2


@pytest.mark.parametrize(
    "row",
    [
        Row("scrubbed, 160 MiB of memory", on(LUKS, memory=160)),
        Row("scrubbed, a little before", MAIN, before=(BOUNDED,)),
        Row("scrubbed, kernel panics without memory", MAIN, before=(PANICKY,)),
        *seldom(
            Row("scrubbed, direct", MAIN),
            Row("scrubbed, return", MAIN, RETURN),
            Row("scrubbed, 64 MiB dirty", MAIN, files=DIRTY_64M),
            Row("scrubbed, reboot", MAIN, verb="reboot"),
            Row("scrubbed, four processors", on(MAIN, processors=4)),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_no_plaintext_stays(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    assert outcome.copies.plaintext == 0


@pytest.mark.parametrize(
    ("stack", "is_early"),
    [(WIDE, True), (BUSY, False), *seldom((on(MAIN, processors=1), False))],
    ids=["two processors", "swap", *seldom("one processor")],
)
def test_it_begins_while_all_is_closed(happen: Happen, stack: Stack, is_early: bool) -> None:
    """Not where swap may have to be read back, nor where the stage needs the only processor."""
    row = Row(f"scrubbed, somebody does not end, {stack.name}", stack, before=(STUBBORN,))
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    assert outcome.copies.plaintext == 0
    assert begun_early(row, outcome.console) == is_early


def test_memory_that_is_full_of_plaintext(happen: Happen) -> None:
    """A page has eight copies. A few that are in use just then, and freed later, may stay: not
    what the kernel keeps in lists of free pages, which is many at a time."""
    outcome = happen(Row("scrubbed, full of plaintext", MAIN, before=(FULL,)))
    assert not outcome.problems
    assert outcome.copies.plaintext <= 8 * 8


def test_memory_that_is_full_of_plaintext_keeps_it(happen: Happen) -> None:
    path = DIRECT + " --scrub=never"
    outcome = happen(Row("control: full of plaintext", MAIN, path, before=(FULL,)))
    assert outcome.copies.plaintext > 8 * 50_000


SHOWN = Row("scrubbed, a table was shown", IN_TABLE, before=(SHOW_TABLE,), tools=("trouble",))


def test_no_key_stays_that_was_text(happen: Happen) -> None:
    outcome = happen(SHOWN)
    assert not outcome.problems, f"see {SHOWN.folder}"


def test_freed_memory_keeps_a_key_that_was_text(happen: Happen) -> None:
    path = DIRECT + " --scrub=never"
    outcome = happen(replace(SHOWN, name="control: not scrubbed, a table was shown", path=path))
    assert outcome.end.kind == "poweroff"
    assert outcome.copies.texts
    assert outcome.copies.texts == outcome.copies.of_keys


def test_somebody_who_goes_on_taking_memory_is_no_panic(happen: Happen) -> None:
    outcome = happen(Row("scrubbed, beside hunger", MAIN, before=(HUNGRY,), tools=("trouble",)))
    assert not outcome.problems
    assert outcome.copies.plaintext == 0


@whole
def test_a_kernel_that_clears_what_it_frees_is_left_to_it(happen: Happen) -> None:
    outcome = happen(Row("init_on_free", CLEARING))
    assert not outcome.problems
    assert "the kernel clears what it frees" in outcome.console
    assert outcome.copies.plaintext == 0


@pytest.mark.parametrize("path", [DIRECT + " --scrub=never", *seldom(RETURN)])
def test_freed_memory_keeps_plaintext(happen: Happen, path: str) -> None:
    to = ORACLE if path == RETURN else "finalstage"
    outcome = happen(Row(f"control: not scrubbed, {to}", MAIN, path, to=to))
    assert not outcome.problems
    assert outcome.copies.plaintext >= HUNDREDS
