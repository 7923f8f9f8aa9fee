"""File systems of every kind beside the root, and mounts in every relation to one another."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import Ext4, Luks, Xfs
from tests.vm.rows import DIRTY, Row
from tests.vm.stacks import Stack

XFS = Stack(
    "xfs",
    Hardware((Disk("a"), Disk("b", 384))),
    (Luks("crypt", "disk/a"), Ext4("mapper/crypt", "/"), Xfs("disk/b", "/xfs")),
    files=(File("/data/old", 300_000), File("/xfs/old", 300_000)),
)

ROWS = [
    Row("xfs", XFS, files=(*DIRTY, File("/xfs/new", 100_000))),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_mounts(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"
