"""Disks that are reached over a network: closed with all else, and given up with their servers."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import Ext4, IscsiDisk, Layer, Luks, Modules, NetworkDisk, NvmeDisk
from tests.vm.layers.network import CONFIG, serve_nvme
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, DIRTY, Row
from tests.vm.stacks import Stack

BUDGET = 40
BOUNDED = f"{DIRECT} --budget={BUDGET} --timeout=1s"
SMALL = 96
MIB = 1 << 20


def on(disk: Layer, name: str) -> tuple[Layer, ...]:
    """A network disk with LUKS on it, and ext4 at /NAME."""
    return (disk, Luks(f"c{name}", disk.name), Ext4(f"mapper/c{name}", f"/{name}"))


ROOT = (Luks("croot", "disk/a"), Ext4("mapper/croot", "/"))
SERVED = (*on(NvmeDisk("b"), "nvme"), *on(IscsiDisk("c"), "iscsi"))
OLD = (File("/data/old", 300_000), File("/nvme/old", MIB), File("/iscsi/old", MIB))
BOTH = Stack(
    "NVMe and iSCSI over TCP",
    Hardware((Disk("a"), Disk("b", SMALL), Disk("c", SMALL))),
    (*ROOT, *SERVED),
    files=OLD,
)
ALL = Stack(
    "NVMe, iSCSI and NBD",
    Hardware((*BOTH.hardware.disks, Disk("d", SMALL, "nbd"))),
    (*ROOT, *SERVED, *on(NetworkDisk("d"), "nbd")),
    files=(*OLD, File("/nbd/old", MIB)),
)
NEW = (File("/nvme/new", 2 * MIB, secret=True), File("/iscsi/new", 2 * MIB))
# The servers are gone, without a word, and somebody waits for them already.
SERVERS_GONE = """
ifconfig lo down
for each in nvme iscsi; do
    (dd if=/dev/zero of=/$each/writer bs=64k count=64 conv=fsync 2>/dev/null) &
done"""

# One that serves a device to others, not to itself: nothing in /sys tells of that.
SERVING = Stack(
    "LUKS that is served to other machines",
    Hardware((Disk("a"), Disk("b", SMALL))),
    (*ROOT, Luks("cserved", "disk/b"), Modules(("nvmet-tcp",))),
)
SERVE = f"""
mount -t configfs configfs {CONFIG}
{serve_nvme("/dev/mapper/cserved")}"""

ROWS = [
    *seldom(
        Row(
            "a device that is served to other machines",
            SERVING,
            before=(SERVE,),
            expected=Expected(
                says=(
                    "held by perhaps nvmet, which serves other machines",
                    "wiped the key of crypt cserved",
                    "keys left 0",
                )
            ),
        )
    ),
    Row(
        "NVMe, iSCSI and NBD over TCP",
        ALL,
        files=(*DIRTY, *NEW, File("/nbd/new", 2 * MIB)),
        tools=("trouble",),
        expected=Expected(
            says=("closed nvme-tcp nvme0", "closed iscsi sda", "closed nbd nbd0", "remaining 0")
        ),
    ),
    *seldom(
        Row(
            "NVMe and iSCSI servers are gone",
            BOTH,
            BOUNDED,
            before=(SERVERS_GONE,),
            files=(*DIRTY, *NEW),
            deadline=BUDGET + 10,
            hangs=True,
            expected=Expected(
                unclean=("ext4:/nvme", "ext4:/iscsi"), lost=tuple(file.path for file in NEW)
            ),
        )
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_network_disks(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"
