"""Deep mixtures of layers of many kinds, as roots and beside them."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import Bcache, Ext4, IscsiDisk, Luks, Lvm, Raid, Swap
from tests.vm.rows import DIRTY, RETURN, Row
from tests.vm.stacks import Stack

ON_BCACHE = Stack(
    "LVM on LUKS on bcache on two RAID1",
    Hardware((Disk("a"), Disk("b"), Disk("c", 128), Disk("d", 128))),
    (
        Raid("md0", ("disk/a", "disk/b")),
        Raid("md1", ("disk/c", "disk/d")),
        Bcache("bcache0", "md0", "md1"),
        Luks("crypt", "bcache0"),
        Lvm("vg", ("mapper/crypt",), (("root", "-L 280M"),)),
        Ext4("vg/root", "/"),
    ),
)

REMOTE_MIRROR = Stack(
    "RAID1 of a local and an iSCSI disk",
    Hardware((Disk("a"), Disk("b"))),
    (
        IscsiDisk("b"),
        Raid("md0", ("disk/a", "sda")),
        Luks("crypt", "md0"),
        Lvm("vg", ("mapper/crypt",), (("root", "-L 280M"), ("swap", "-L 16M"))),
        Ext4("vg/root", "/"),
        Swap("vg/swap"),
    ),
)

ROWS = [
    Row("root on bcache on md, direct", ON_BCACHE),
    Row("root on bcache on md, return", ON_BCACHE, RETURN),
    Row(
        "RAID1 of a local and an iSCSI disk, LUKS and LVM on it",
        REMOTE_MIRROR,
        files=(*DIRTY, File("/data/more", 8 * MIB)),
        expected=Expected(says=("closed iscsi sda",)),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_what_is_deep(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    assert "remaining 0" in outcome.console
