"""md arrays of every level, in every state that they can be in when a machine goes down."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import (
    Container,
    Ext4,
    Inactive,
    Luks,
    Lvm,
    Modules,
    MonitorInRoot,
    Partitioned,
    Plain,
    Raid,
    Resyncing,
    Slices,
)
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, DIRTY, Row
from tests.vm.stacks import TWO, Stack

ROOT_ON_LUKS = (Luks("crypt", "disk/a"), Ext4("mapper/crypt", "/"))
S = Slices("s", "disk/b", 24, 16)
OF_LEVELS = (
    Raid("md0", S.part(0, 1), "linear", options=""),
    Raid("md1", S.part(2, 3), 0, options=""),
    Raid("md2", S.part(4, 5), 1),
    Raid("md3", S.part(6, 7, 8), 4),
    Raid("md4", S.part(9, 10, 11), 5),
    Raid("md5", S.part(12, 13, 14, 15), 6),
    Raid("md6", S.part(16, 17, 18, 19), 10),
    Raid("md7", S.part(20), "multipath", options="--force"),
)
# All of them in one volume group, and a file system in stripes over all.
LEVELS = Stack(
    "md, all levels",
    Hardware((Disk("a"), Disk("b", 384))),
    (
        *ROOT_ON_LUKS,
        S,
        *OF_LEVELS,
        Lvm(
            "all",
            tuple(array.name for array in OF_LEVELS),
            (("levels", f"-l 16 -i {len(OF_LEVELS)}"),),
        ),
        Ext4("all/levels", "/levels"),
        Plain("md8", S.part(21, 22)),
        Ext4("md8", "/plain"),
    ),
    files=(File("/data/old", 300_000), File("/levels/old", 300_000), File("/plain/old", 300_000)),
)

T = Slices("t", "disk/b", 23, 20)
STATES = Stack(
    "md, in all states",
    Hardware((Disk("a"), Disk("b", 512))),
    (
        *ROOT_ON_LUKS,
        Modules(("raid456", "raid0", "raid10")),
        T,
        Raid("md0", T.part(0, 1), 5, missing=1),
        Resyncing("md1", T.part(2, 3)),
        Raid("md2", T.part(4, 5), options="--assume-clean --bitmap=internal"),
        Partitioned("md2"),
        Ext4("md2p1", "/partition"),
        Raid("md3", T.part(6, 7), options="--assume-clean", bitmap="/partition/bitmap"),
        Raid("md4", T.part(8, 9, 10), 5, journal="mapper/t11", options="--bitmap=none"),
        Raid("md5", T.part(12, 13), after="echo frozen >sync_action"),
        Raid("md6", T.part(14, 15)),
        Raid("md7", ("md5", "md6"), 0, options=""),
        Inactive("md8", T.part(16, 17, 18)),
        Raid("md9", T.part(19, 20), after="echo readonly >array_state"),
        Raid("md10", T.part(21, 22), after="echo read-auto >array_state"),
        Lvm(
            "odd",
            ("md0", "md1", "md3", "md4", "md7"),
            (("states", "-l 20 -i 5"),),
        ),
        Ext4("odd/states", "/states"),
    ),
    files=(
        File("/data/old", 300_000),
        File("/partition/old", 300_000),
        File("/states/old", 300_000),
    ),
)

SMALL = tuple(Disk(name, 64) for name in "bcde")
CONTAINERS = Stack(
    "md, containers",
    Hardware((Disk("a"), *SMALL)),
    (
        *ROOT_ON_LUKS,
        Container("md126", ("disk/b", "disk/c"), "md127", "ddf"),
        Container("md124", ("disk/d", "disk/e"), "md125", "imsm"),
        Ext4("md126", "/ddf"),
        Ext4("md124", "/imsm"),
        MonitorInRoot(),
    ),
    files=(File("/data/old", 300_000), File("/ddf/old", 300_000), File("/imsm/old", 300_000)),
)
IN_CONTAINER = Stack(
    "root in a container",
    Hardware(TWO),
    (
        Container("md126", ("disk/a", "disk/b"), "md127", "imsm"),
        Luks("crypt", "md126"),
        Ext4("mapper/crypt", "/"),
        MonitorInRoot(),
    ),
)


def monitor_from_root(container: str) -> str:
    """Shell text for `before`: the container's monitor is replaced by one from the root itself,
    without the mark that those from an initramfs have."""
    return f"""
        export IMSM_NO_PLATFORM=1 IMSM_DEVNAME_AS_SERIAL=1
        old=$(cat /run/mdadm/{container}.pid)
        /mdmon --takeover {container}
        while [ -d /proc/$old ]; do usleep 10000; done"""


# One array is clean then, and waits for ever before the next write to it. The other one is not.
NO_MONITORS = """
    sync -f /imsm/new
    until grep -q clean /sys/block/md124/md/array_state; do usleep 10000; done
    kill -9 $(cat /run/mdadm/md125.pid)
    echo late >/imsm/late
    sync -f /ddf/new
    kill -9 $(cat /run/mdadm/md127.pid)"""

ROWS = [
    Row(
        "md of all levels",
        LEVELS,
        files=(*DIRTY, File("/levels/new", 4 << 20), File("/plain/new", 100_000)),
    ),
    *seldom(
        Row(
            "md in all states",
            STATES,
            files=(*DIRTY, File("/states/new", 4 << 20), File("/partition/new", 100_000)),
        )
    ),
    Row(
        "md in containers",
        CONTAINERS,
        files=(*DIRTY, File("/ddf/new", 100_000), File("/imsm/new", 100_000)),
        before=(monitor_from_root("md125"),),
    ),
    *seldom(
        Row("root in a container", IN_CONTAINER),
        Row(
            "root in a container, monitor in root",
            IN_CONTAINER,
            before=(monitor_from_root("md127"),),
        ),
        Row(
            "md in containers, no monitors",
            CONTAINERS,
            f"{DIRECT} --budget=40",
            files=(*DIRTY, File("/ddf/new", 100_000), File("/imsm/new", 100_000)),
            before=(NO_MONITORS,),
            hangs=True,
            expected=Expected(
                says=(
                    "raid1 md124 does not answer: it goes on without its monitor",
                    "not all of raid1 md126 could be written",
                ),
                # What nobody has noted as clean by then depends on when the monitors ended.
                unclean=("md124", "md126"),
            ),
        ),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_stops_arrays(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    assert "remaining 0" in outcome.console
