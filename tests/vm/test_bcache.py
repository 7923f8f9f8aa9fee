"""bcache with dirty data that only the cache has, stopped in either order."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import Bcache, Ext4, Luks, WaitingBcache
from tests.vm.part import seldom
from tests.vm.rows import DIRTY, RETURN, Row
from tests.vm.stacks import Stack

BCACHE = Stack(
    "bcache",
    Hardware((Disk("a"), Disk("b", 96), Disk("c", 96), Disk("d", 16), Disk("e", 40))),
    (
        Luks("crypt", "disk/a"),
        Ext4("mapper/crypt", "/"),
        Bcache("bcache0", "disk/b", "disk/c", volume="16M"),
        Ext4("bcache0", "/cached"),
        Ext4("bcache1", "/volume"),
        WaitingBcache("disk/d", "disk/e"),
    ),
    files=(
        File("/data/old", 300_000),
        File("/cached/old", 300_000),
        File("/volume/old", 300_000),
    ),
)
FILES = (*DIRTY, File("/cached/new", 8 << 20), File("/volume/new", 100_000))

# The devices go by themselves, once nobody has them open any more.
SET_FIRST = "echo 1 >/sys/block/bcache0/bcache/cache/stop"
CLOSED = ("closed bcache bcache0", "closed bcache set", "closed bcache backing")

ROWS = [
    Row("bcache, dirty", BCACHE, files=FILES, expected=Expected(says=CLOSED)),
    *seldom(
        Row("bcache, its set is stopped first", BCACHE, RETURN, files=FILES, before=(SET_FIRST,))
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_stops_bcache_and_keeps_what_is_dirty(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    # Had anything been left, the kernel itself would have stopped it, unseen, on the way down.
    assert "remaining 0" in outcome.console


def test_what_was_written_back_is_noticed(happen: Happen) -> None:
    detach = """
        cd /sys/block/bcache0/bcache; echo 1 >writeback_running; echo 1 >detach
        while [ -e cache ]; do usleep 10000; done"""
    row = Row("control: bcache, detached", BCACHE, files=FILES, before=(detach,))
    assert "bcache0 state is [detached], not [dirty]" in happen(row).problems
