"""Swap areas of every kind, and loop devices in every place."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import (
    Circle,
    Crypt,
    Ext4,
    Gpt,
    Loop,
    Luks,
    LuksFile,
    Lvm,
    Raid,
    Swap,
    SwapFile,
    Zram,
)
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, DIRTY, Row
from tests.vm.stacks import Stack

ROOT = (Luks("croot", "disk/a"), Ext4("mapper/croot", "/"))
ODD = "/odd names/swap \\ 'x'\t\x0bé # (deleted)\nof two lines"
SWAPS = Stack(
    "swap of every kind",
    Hardware((Disk("a"), Disk("b", 96), Disk("c", 32), Disk("d", 16))),
    (
        *ROOT,
        Lvm("vg", ("disk/b",), (("swap", "-L 16M"), ("plain", "-L 48M"))),
        Ext4("vg/plain", "/plain"),
        Swap("vg/swap"),
        Crypt("cswap", "disk/c", 32, segments=1),
        Swap("mapper/cswap"),
        Swap("disk/d"),
        SwapFile("/plain/swap", 16),
        SwapFile(ODD, 16),
        Zram("zram0", 32),
        Swap("zram0"),
        Zram("zram1", 24, at="/zram"),
    ),
    files=(File("/data/old", 300_000), File("/plain/old", 300_000)),
)
# Memory is full of what is in memory alone, and some of it is swapped out. A file system on a disk
# is mounted there, so that it does not go before swap by itself.
FULL = """
mount -t tmpfs -o size=100% tmpfs /mnt
mkdir /mnt/on
mount -o bind /data /mnt/on
dd if=/dev/zero of=/mnt/file bs=1M count=460 status=none
grep -v Filename /proc/swaps >/dev/console
awk 'NR > 1 { used += $(NF - 1) } END { exit used < 40000 }' /proc/swaps"""
NODES_GONE = "rm /dev/mapper/vg-swap"
TO_ZRAM = "cp /data/new-secret /zram; sync"

PARTED = Stack(
    "partitions of a disk, an array and loop devices",
    Hardware((Disk("a"), Disk("b", 64), Disk("c", 64))),
    (
        Gpt("disk/a", 384, (16, 300, 48)),
        Swap("disk/a-1"),
        Luks("croot", "disk/a-2"),
        Ext4("mapper/croot", "/"),
        Ext4("disk/a-3", "/third"),
        Raid("md0", ("disk/b", "disk/c")),
        Gpt("md0", 60, (24, 24)),
        Ext4("md0-1", "/of-md"),
        Loop("loop0", "/third/image", 24),
        Gpt("loop0", 24, (10, 10)),
        Ext4("loop0-1", "/of-loop"),
        Swap("loop0-2"),
        LuksFile("cfile", "/luks", mib=48),
        Ext4("mapper/cfile", "/in-luks"),
    ),
    files=tuple(
        File(f"{at}/old", 300_000) for at in ("/data", "/third", "/of-md", "/of-loop", "/in-luks")
    ),
)
CIRCLE = Stack(
    "a circle",
    Hardware((Disk("a"), Disk("b", 64))),
    (*ROOT, Circle("circle", "disk/b", "/circle", 24)),
    files=(File("/data/old", 300_000), File("/circle/old", 300_000)),
)
# The first barrier in a circle waits for itself; so does then whoever comes after it.
HANGING = Stack(
    "a circle on LUKS",
    Hardware((Disk("a"), Disk("b", 72))),
    (*ROOT, Luks("cround", "disk/b"), Circle("circle", "mapper/cround", "/circle", 24)),
    files=(File("/data/old", 300_000), File("/circle/old", 300_000)),
)
HANG = """
mount -o remount,barrier=1 /circle
(dd if=/dev/zero of=/circle/writer bs=64k count=4 conv=fsync 2>/dev/null) &
sleep 1"""
# Too large for the part that lies on the disk.
OVER_THE_END = File("/circle/new", 40 * MIB)

ROWS = [
    *seldom(
        Row(
            "partitions of a disk, an array and loop devices",
            PARTED,
            files=(
                *DIRTY,
                *(File(f"{at}/new", 200_000) for at in ("/third", "/of-md", "/of-loop")),
                File("/in-luks/new", MIB, secret=True),
            ),
        )
    ),
    Row(
        "a loop whose file lies on a file system above it",
        CIRCLE,
        files=(*DIRTY, OVER_THE_END),
        expected=Expected(says=("breaks the circle ext4 /circle on linear circle on loop loop7",)),
    ),
    Row("swap of every kind, in use", SWAPS, before=(TO_ZRAM, NODES_GONE, FULL), files=DIRTY),
]

HUNG = [
    Row(
        "a circle that waits for itself",
        HANGING,
        f"{DIRECT} --budget=40 --timeout=1s",
        before=(HANG,),
        files=(*DIRTY, File("/circle/new", 200_000)),
        deadline=50,
        hangs=True,
        expected=Expected(
            unclean=("ext4:/circle",),
            lost=("/circle/new",),
            says=(
                "breaks the circle ext4 /circle",
                "cannot write it out, the circle of ext4 /circle",
                "wiped the key of crypt cround",
            ),
        ),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_swap_and_loops(happen: Happen, row: Row) -> None:
    """Of what was in zram, the allocator below keeps what it has last put together, a page for
    each processor: vm_buf in mm/zsmalloc.c."""
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    kept = row.stack.hardware.processors if row.stack is SWAPS else 0
    assert outcome.copies.plaintext <= kept
    for disk in row.stack.hardware.disks:
        assert outcome.flushes[disk.name], f"disk {disk.name} was not asked to write out its cache"
    assert "remaining 0" in outcome.console


@pytest.mark.parametrize("row", HUNG, ids=lambda row: row.slug)
def test_what_hangs_costs_little_time_and_no_key_stays(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"
