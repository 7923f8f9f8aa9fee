"""Deep mixtures of layers of many kinds, as roots and beside them."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import (
    Bcache,
    Btrfs,
    Ext4,
    Image,
    IscsiDisk,
    Layer,
    Luks,
    LuksFile,
    Lvm,
    Overlay,
    Raid,
    Swap,
    Verified,
    WriteCached,
    Xfs,
)
from tests.vm.part import seldom
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
# The pool's own volumes are not to be seen from above, and swap lies beside them.
ON_THIN = Stack(
    "btrfs on two LUKS on thin LVM on RAID5, swap beside",
    Hardware((Disk("a", 256), Disk("b", 256), Disk("c", 256))),
    (
        Raid("md0", ("disk/a", "disk/b", "disk/c"), 5, written=True),
        Lvm(
            "vg",
            ("md0",),
            (
                ("pool", "-L 400M --type thin-pool"),
                ("one", "-V 240M --thinpool pool"),
                ("two", "-V 240M --thinpool pool"),
                ("swap", "-L 32M"),
            ),
            modules=("dm-thin-pool",),
            written=True,
        ),
        Luks("crypt1", "vg/one"),
        Luks("crypt2", "vg/two"),
        Btrfs(("mapper/crypt1", "mapper/crypt2"), ("/", "/volume")),
        Swap("vg/swap"),
    ),
    files=(File("/data/old", 300_000), File("/volume/old", 300_000)),
)
LIVE = Stack(
    "overlay of squashfs on verity on loop on ext4 on LUKS, and xfs on writecache",
    Hardware((Disk("a", 64), Disk("b", 384), Disk("c", 32))),
    (
        Luks("media", "disk/a"),
        Ext4("mapper/media", "/run/media"),
        Verified("verified", "/run/media/live/image"),
        Image("squashfs", "/dev/mapper/verified", "/run/lower"),
        WriteCached("cached", "disk/b", "disk/c"),
        Xfs("mapper/cached", "/run/upper"),
        Overlay(("/run/lower",), "/run/upper", "/"),
    ),
)
# None of the mounts that the root is made of is to be seen any more.
DETACHED = "umount -l /run/lower; umount -l /run/upper; umount -l /run/media"


def _in_file(number: int, folder: str, mib: int) -> tuple[Layer, ...]:
    """LUKS in a file in `folder`, and ext4 on it."""
    return (
        LuksFile(f"crypt{number}", f"{folder}/image", mib=mib),
        Ext4(f"mapper/crypt{number}", f"/{number}"),
    )


NESTED = Stack(
    "LUKS in a file on LUKS in a file on LUKS",
    Hardware((Disk("a"),)),
    (
        Luks("crypt", "disk/a"),
        Ext4("mapper/crypt", "/"),
        *_in_file(1, "", 144),
        *_in_file(2, "/1", 96),
        *_in_file(3, "/2", 48),
    ),
    files=(File("/data/old", 300_000), *(File(f"/{n}/old", 300_000) for n in (1, 2, 3))),
)

ROWS = [
    Row("btrfs on LUKS on thin LVM on RAID5", ON_THIN),
    *seldom(Row("btrfs on LUKS on thin LVM on RAID5, return", ON_THIN, RETURN)),
    Row("root is an overlay", LIVE),
    *seldom(
        Row("root is an overlay, return", LIVE, RETURN),
        Row("root is an overlay, detached", LIVE, before=(DETACHED,)),
        Row(
            "LUKS in a file on LUKS in a file on LUKS",
            NESTED,
            files=(*DIRTY, *(File(f"/{n}/new", 2 * MIB, secret=True) for n in (1, 2, 3))),
        ),
        Row("root on bcache on md, direct", ON_BCACHE),
        Row("root on bcache on md, return", ON_BCACHE, RETURN),
        Row(
            "RAID1 of a local and an iSCSI disk, LUKS and LVM on it",
            REMOTE_MIRROR,
            files=(*DIRTY, File("/data/more", 8 * MIB)),
            expected=Expected(says=("closed iscsi sda",)),
        ),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_what_is_deep(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    assert "remaining 0" in outcome.console
