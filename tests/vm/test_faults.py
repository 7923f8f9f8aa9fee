"""What hangs and breaks: no key stays, the machine goes down in time, and the rest is whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.faults import freeze
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import Crypt, Ext4, Layer, Linear, Luks, Lvm, NetworkDisk, Raid
from tests.vm.rows import DIRECT, DIRTY, Row
from tests.vm.stacks import Stack

BUDGET = 20
# Two seconds for what is not in the stage's hands: an emulated machine starts it, and goes down.
DEADLINE = BUDGET + 2
BOUNDED = f"{DIRECT} --budget={BUDGET} --timeout=1s"
# The same with nothing done about keys: then they must be found.
UNSEALED = BOUNDED.replace(
    "exec ", "FINALSTAGE_TEST=1 FINALSTAGE_FAULT=fail@phase:free+phase:seal exec "
)
SMALL = 160
PAIR = Hardware((Disk("a"), Disk("b", SMALL)))

# Shell text for `before`.
SUSPEND = "/run/trouble suspend hang"


def writing(to: str) -> str:
    """A process that writes and syncs without end: it soon sleeps in the kernel."""
    return f"(while dd if=/dev/zero of={to}/writer bs=64k count=64 conv=fsync; do :; done) 2>&- &"


# -- a stack beside the root, on a device that is suspended, and so answers nothing ---------------

OLD = (File("/data/old", 300_000), File("/data/secret", MIB, secret=True))
HUNG_OLD, HUNG_NEW = File("/hung/old", 300_000), File("/hung/new", 200_000, secret=True)
ROOT_LAYERS = (Luks("croot", "disk/a"), Ext4("mapper/croot", "/"))
HANG = Linear("hang", "disk/b")


def beside(name: str, *layers: Layer, top: str) -> Stack:
    """A machine with an encrypted root, and beside it `layers` with ext4 on /dev/`top`."""
    whole: tuple[Layer, ...] = (*ROOT_LAYERS, *layers, Ext4(top, "/hung"))
    return Stack(name, PAIR, whole, files=(*OLD, HUNG_OLD))


def hung(name: str, stack: Stack, *unclean: str, path: str = BOUNDED) -> Row:
    """A row in which `hang` is suspended below a busy file system."""
    return Row(
        name,
        stack,
        path,
        before=(SUSPEND, writing("/hung")),
        files=(*DIRTY, HUNG_NEW),
        deadline=DEADLINE,
        tools=("trouble",),
        expected=Expected(unclean=("ext4:/hung", *unclean), lost=(HUNG_NEW.path,)),
    )


LUKS = beside("LUKS", HANG, Luks("crypt", "mapper/hang"), top="mapper/crypt")
LUKS1 = beside("LUKS1", HANG, Luks("crypt", "mapper/hang", version=1), top="mapper/crypt")
NO_KEYRING = beside(
    "key in the table",
    HANG,
    Luks("crypt", "mapper/hang", options="--disable-keyring"),
    top="mapper/crypt",
)
SEGMENTS = beside("two segments", HANG, Crypt("crypt", "mapper/hang", 128), top="mapper/crypt")
INACTIVE = beside(
    "inactive table",
    HANG,
    Crypt("crypt", "mapper/hang", 128, 1),
    top="mapper/crypt",
)
INACTIVE = replace(
    INACTIVE, layers=(*INACTIVE.layers, Crypt("crypt", "mapper/hang", 128, 2, inactive=True))
)
VOLUME = Lvm("vg", ("mapper/crypt",), (("data", "-L 96M"),))
LVM = beside("LVM on LUKS", HANG, Luks("crypt", "mapper/hang"), VOLUME, top="vg/data")

# -- the same with the root itself on it, and another encrypted file system beside ----------------

OTHER = (Luks("cother", "disk/b"), Ext4("mapper/cother", "/other"))
OTHER_OLD, OTHER_NEW = File("/other/old", 300_000), File("/other/new", 2 * MIB)
ROOT = Stack(
    "root on LUKS",
    PAIR,
    (Linear("hang", "disk/a"), Luks("crypt", "mapper/hang"), Ext4("mapper/crypt", "/"), *OTHER),
    files=(*OLD, OTHER_OLD),
)
ROOT_LVM = replace(
    ROOT,
    name="root on LVM on LUKS",
    layers=(
        Linear("hang", "disk/a"),
        Luks("crypt", "mapper/hang"),
        Lvm("vg", ("mapper/crypt",), (("root", "-L 280M"),)),
        Ext4("vg/root", "/"),
        *OTHER,
    ),
)


def hung_root(name: str, stack: Stack, path: str = BOUNDED) -> Row:
    """A row in which `hang` is suspended below the root."""
    return Row(
        name,
        stack,
        path,
        before=(SUSPEND, writing("/data")),
        files=(*DIRTY, OTHER_NEW),
        deadline=DEADLINE,
        tools=("trouble",),
        expected=Expected(unclean=("ext4:/",), lost=tuple(file.path for file in DIRTY)),
    )


# -- arrays, of which one member hangs or both do -----------------------------------------------

SIZE = Disk("a").size
HALVES = Hardware((Disk("a"), Disk("b", SIZE)))
MIRROR = Stack(
    "RAID1 on two LUKS",
    HALVES,
    (
        Linear("hang", "disk/b"),
        Luks("crypt1", "disk/a"),
        Luks("crypt2", "mapper/hang"),
        Raid("md0", ("mapper/crypt1", "mapper/crypt2")),
        Ext4("md0", "/"),
    ),
)
MIRROR_OF_VOLUMES = Stack(
    "RAID1 on two LVM on two LUKS",
    HALVES,
    (
        Linear("hang", "disk/b"),
        Luks("crypt1", "disk/a"),
        Luks("crypt2", "mapper/hang"),
        Lvm("vg1", ("mapper/crypt1",), (("half", "-L 320M"),)),
        Lvm("vg2", ("mapper/crypt2",), (("half", "-L 320M"),)),
        Raid("md0", ("vg1/half", "vg2/half")),
        Ext4("md0", "/"),
    ),
)
DEAD_MIRROR = Stack(
    "RAID1 on two LUKS, beside the root",
    Hardware((Disk("a"), Disk("b", SMALL), Disk("c", SMALL))),
    (
        *ROOT_LAYERS,
        Linear("hang", "disk/b"),
        Linear("hang2", "disk/c"),
        Luks("crypt1", "mapper/hang"),
        Luks("crypt2", "mapper/hang2"),
        Raid("md0", ("mapper/crypt1", "mapper/crypt2")),
        Ext4("md0", "/hung"),
    ),
    files=(*OLD, HUNG_OLD),
)


def half_hung(name: str, stack: Stack, path: str = BOUNDED) -> Row:
    """A row in which one half of a mirror hangs below the root: nothing may be lost."""
    return Row(
        name,
        stack,
        path,
        before=(SUSPEND, writing("/data")),
        deadline=DEADLINE,
        tools=("trouble",),
        expected=Expected(unclean=("md0", "vg2")),
    )


# -- disks that hang without dm, frozen from outside ----------------------------------------------

NETWORK = (NetworkDisk("b"), Luks("crypt", "nbd0"))


def frozen(name: str, bus: str, *below: Layer, path: str = BOUNDED) -> Row:
    """A row in which the disk below the LUKS, on the bus `bus`, answers nothing any more."""
    layers = below or (Luks("crypt", "disk/b"),)
    stack = beside(f"LUKS on {bus}", *layers, top="mapper/crypt")
    machine = Hardware((Disk("a"), Disk("b", SMALL, bus)))
    return replace(
        hung(name, replace(stack, hardware=machine), path=path),
        before=(writing("/hung"),),
        faults=(freeze("b"),),
    )


ROWS = [
    hung("hung: LUKS", LUKS),
    hung("hung: LUKS1", LUKS1),
    hung("hung: key in the table", NO_KEYRING),
    hung("hung: two segments", SEGMENTS),
    hung("hung: inactive table", INACTIVE),
    hung("hung: LVM on LUKS", LVM),
    hung_root("hung: root on LUKS", ROOT),
    hung_root("hung: root on LVM on LUKS", ROOT_LVM),
    half_hung("hung: one half of RAID1 on LUKS", MIRROR),
    half_hung("hung: one half of RAID1 on LVM on LUKS", MIRROR_OF_VOLUMES),
    replace(
        hung("hung: both halves of RAID1 on LUKS", DEAD_MIRROR, "md0"),
        before=(SUSPEND, f"{SUSPEND}2", writing("/hung")),
    ),
    replace(
        frozen("frozen: virtio-blk", "virtio"),
        expected=Expected(
            unclean=("ext4:/hung",),
            lost=(HUNG_NEW.path,),
            keys_remain=True,
            says=("does not answer, and the kernel has no way to give it up",),
        ),
    ),
    frozen("frozen: virtio-scsi", "scsi"),
    frozen("frozen: NVMe", "nvme"),
    frozen("frozen: NBD", "nbd", *NETWORK),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_no_key_stays_and_the_rest_is_whole(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"


CONTROLS = [
    hung("control: hung: LUKS, not sealed", LUKS, path=UNSEALED),
    hung("control: hung: key in the table, not sealed", NO_KEYRING, path=UNSEALED),
    hung("control: hung: two segments, not sealed", SEGMENTS, path=UNSEALED),
    hung("control: hung: inactive table, not sealed", INACTIVE, path=UNSEALED),
    hung_root("control: hung: root on LUKS, not sealed", ROOT, path=UNSEALED),
    half_hung("control: hung: one half of RAID1, not sealed", MIRROR, path=UNSEALED),
]


@pytest.mark.parametrize("row", CONTROLS, ids=lambda row: row.slug)
def test_a_key_that_is_not_sealed_is_found(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.copies.halves >= 2
    assert outcome.copies.round_keys
