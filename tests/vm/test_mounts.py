"""File systems of every kind, and mounts in every relation to one another."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import Btrfs, Ext4, Image, Luks, Xfs
from tests.vm.rows import DIRTY, Row
from tests.vm.stacks import Stack

ROOT_LAYERS = (Luks("crypt", "disk/a"), Ext4("mapper/crypt", "/"))

FILE_SYSTEMS = Stack(
    "file systems",
    Hardware(
        (
            Disk("a"),
            Disk("b", 384),
            Disk("c", 80),
            Disk("d", 32),
            Disk("e", 64),
            Disk("f", 16),
            Disk("g", 160),
            Disk("h", 160),
        )
    ),
    (
        *ROOT_LAYERS,
        Xfs("disk/b", "/xfs", log="disk/c", realtime="disk/d"),
        Ext4("disk/e", "/ext4", journal="disk/f"),
        Btrfs(("disk/g", "disk/h"), ("/btrfs", "/volume")),
        Image("squashfs", "/images/squashfs", "/squashfs"),
        Image("erofs", "/volume/erofs", "/erofs"),
    ),
    files=(
        File("/data/old", 300_000),
        *(File(f"/{name}/old", 300_000) for name in ("xfs", "ext4", "btrfs", "volume")),
    ),
)
NEW = tuple(File(f"/{name}/new", 200_000) for name in ("xfs", "ext4", "btrfs", "volume"))

ROWS = [
    Row("file systems of every kind", FILE_SYSTEMS, files=(*DIRTY, *NEW)),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_mounts(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"
