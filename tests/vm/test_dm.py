"""What the device mapper maps, LVM among it: closed or sealed, and in order at the next boot."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import (
    ROOT,
    Crypt,
    Ext4,
    Linear,
    Luks,
    Mapped,
    Multipath,
    Snapshot,
    ThinPool,
    Verity,
    Written,
)
from tests.vm.layers.dm import OddDevices, cache, era, mirror, slices
from tests.vm.layers.keyed import zeros
from tests.vm.layers.lvm import LvmZoo
from tests.vm.part import seldom, whole
from tests.vm.rows import DIRECT, DIRTY, ORACLE, RETURN, Row
from tests.vm.stacks import Stack
from tests.vm.test_faults import DEADLINE, STUCK, SUSPEND, writing

OLD = (File("/data/old", 300_000), File("/data/secret", MIB, secret=True))
ROOT_LAYERS = (Luks("croot", "disk/a"), Ext4("mapper/croot", "/"))


@dataclass(frozen=True)
class Mounted(Ext4):
    """An ext4 file system that is already there."""

    def build(self) -> str:
        place = f"{ROOT}{self.at}"
        return f"mkdir -p {place}\nmount -t ext4 /dev/{self.lower} {place}"


def sums(name: str, lower: str, mode: str) -> Mapped:
    """A device with checksums that need no key, written by a journal (J) or a bitmap (B)."""
    words = f"integrity {{0}} 0 - {mode} 2 block_size:4096 internal_hash:crc32c"
    return Mapped(name, (lower,), 12, words, modules=("dm-integrity",), after=zeros(name, 12))


# -- every target, on one encrypted disk -----------------------------------------------------------

CUT = slices(
    "mapper/cdata",
    s1=16, s2=16, leg=32, mlog=1, emeta=4, real=16, store=16, cmeta=4, cfast=16, cslow=24,
    wfast=16, wslow=24, tmeta=4, tdata=48, vdata=8, vsums=2, ij=16, ib=16, sp1=4, sp2=4,
)  # fmt: skip
SPARE = ("mapper/sp1", "mapper/sp2")
TARGETS = Stack(
    "every target",
    Hardware((Disk("a"), Disk("b", 320))),
    (
        *ROOT_LAYERS,
        Luks("cdata", "disk/b"),
        Written("mapper/cdata"),
        *CUT,
        Mapped("striped", ("mapper/s1", "mapper/s2"), 32, "striped 2 128 {0} 0 {1} 0"),
        mirror("mirrored", ("mapper/striped", "mapper/leg"), "mapper/mlog", 32),
        era("dated", "mapper/emeta", "mapper/mirrored", 32),
        Mapped("late", ("mapper/dated",), 32, "delay {0} 0 0 {0} 0 20", modules=("dm-delay",)),
        Crypt("crypt", "mapper/late", 32, 8),
        Ext4("mapper/crypt", "/deep"),
        Snapshot("origin", "mapper/real", "mapper/store", "/origin"),
        cache("cached", "mapper/cmeta", "mapper/cfast", "mapper/cslow", 24),
        Ext4("mapper/cached", "/cached"),
        Mapped(
            "wcached",
            ("mapper/wfast", "mapper/wslow"),
            24,
            "writecache s {1} {0} 4096 0",
            modules=("dm-writecache",),
        ),
        Ext4("mapper/wcached", "/wcached"),
        ThinPool("thin", "mapper/tmeta", "mapper/tdata", 24, snapshots=20),
        *(Mounted(f"mapper/thin-{number}", f"/thin/{number}") for number in (0, 1, 7)),
        Verity("verity", "mapper/vdata", "mapper/vsums", "/verity"),
        sums("journal", "mapper/ij", "J"),
        Ext4("mapper/journal", "/journal"),
        sums("bitmap", "mapper/ib", "B"),
        Ext4("mapper/bitmap", "/bitmap"),
        Mapped("zero", (), 4, "zero", modules=("dm-zero",)),
        Mapped("error", (), 4, "error"),
        Mapped("flakey", SPARE[:1], 4, "flakey {0} 0 3600 1", modules=("dm-flakey",)),
        Mapped("writes", SPARE, 4, "log-writes {0} {1}", modules=("dm-log-writes",)),
        Mapped("half", SPARE[:1], 2, "unstriped 2 128 0 {0} 0", modules=("dm-unstripe",)),
        Mapped("switch", SPARE, 4, "switch 2 128 0 {0} 0 {1} 0", modules=("dm-switch",)),
    ),
    files=(*OLD, *(File(f"{at}/old", 300_000) for at in ("/deep", "/cached", "/wcached"))),
)
PLACES = ("/deep", "/cached", "/wcached", "/thin/0", "/thin/1", "/thin/7", "/journal", "/bitmap")
NEW = (*DIRTY, *(File(f"{at}/new", MIB, secret=True) for at in PLACES))
# What is on the fast devices only is there to be lost; what the snapshot keeps, to be changed.
DIRTY_CACHES = """
for at in cached wcached; do dd if=/dev/zero of=/$at/more bs=1M count=4 conv=fsync; done
[ $(/run/trouble status cached | cut -d' ' -f11) -gt 0 ]
set -- $(/run/trouble status wcached)
[ $3 -lt $2 ]"""
# Unmounted late, since more is mounted on it: what goes at once goes long before.
OVERWRITTEN = f"""
dd if=/dev/zero of=/origin/{Snapshot.FILE} bs=64k count=4 conv=notrunc
at=/origin
for i in 1 2 3 4; do at=$at/on; mkdir $at; mount -t tmpfs none $at; done"""
RESET = "echo b >/proc/sysrq-trigger"
WRITER = """
(while dd if=/dev/zero of=/deep/writer bs=64k count=16 conv=fsync; do :; done) 2>&- &
sleep 1"""
STAYS = "(exec -a @daemon /run/trouble unshare)"


def targets(name: str, *before: str, path: str = DIRECT) -> Row:
    """A row with dirty caches, dirty files everywhere, and an origin that is being changed."""
    before = (DIRTY_CACHES, OVERWRITTEN, *before)
    return Row(name, TARGETS, path, before=before, files=NEW, tools=("trouble",))


@pytest.mark.parametrize(
    "row",
    [
        targets("dm: every target"),
        *seldom(
            targets("dm: every target, return", path=RETURN),
            replace(
                targets("dm: every target, above a LUKS that stays", STAYS),
                expected=Expected(says=("wiped the key of crypt cdata", "keys left 0")),
            ),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_leaves_the_device_mapper_in_order(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


def test_what_is_not_closed_is_noticed(happen: Happen) -> None:
    """By a machine that is restarted while half of its mirror has not yet written all."""
    half = "/run/trouble suspend leg"
    row = targets("control: dm: every target", half, WRITER, path=RESET)
    outcome = happen(replace(row, verb="reboot", to=ORACLE))
    assert {"cached", "mirrored"} <= {line.split()[0] for line in outcome.verdict.unclean}


# -- LVM, with volumes of every kind ---------------------------------------------------------------

ZOO_KINDS = ("origin", "mirror", "raid1", "raid5", "cached", "wcached", "thin0", "thin1")
ZOO = Stack(
    "LVM, one of each",
    Hardware((Disk("a"), *(Disk(name, 192) for name in "bcd"))),
    (
        *ROOT_LAYERS,
        *(Written(f"disk/{name}") for name in "bcd"),
        LvmZoo("vg", ("disk/b", "disk/c", "disk/d"), thin=10),
        *(Ext4(f"vg/{kind}", f"/{kind}") for kind in ZOO_KINDS),
    ),
    files=(*OLD, *(File(f"/{kind}/old", 300_000) for kind in ZOO_KINDS)),
)
ZOO_NEW = (*DIRTY, *(File(f"/{kind}/new", MIB) for kind in ZOO_KINDS))


def zoo(name: str, *before: str, path: str = DIRECT) -> Row:
    """A row with dirty files on everything."""
    dirty = DIRTY_CACHES.replace("status ", "status vg-")
    return Row(name, ZOO, path, before=(dirty, *before), files=ZOO_NEW, tools=("trouble",))


@pytest.mark.parametrize(
    "row",
    [zoo("dm: LVM, one of each"), *seldom(zoo("dm: LVM, one of each, return", path=RETURN))],
    ids=lambda row: row.slug,
)
def test_leaves_every_kind_of_volume_in_order(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


def test_what_lvm_is_left_with_is_noticed(happen: Happen) -> None:
    """By a machine that is restarted in the middle of its work."""
    row = zoo("control: dm: LVM", WRITER.replace("/deep", "/raid1"), path=RESET)
    outcome = happen(replace(row, verb="reboot", to=ORACLE))
    assert {"vg raid-dirty", "vg cache-clean"} <= {
        " ".join(line.split()[:2]) for line in outcome.verdict.unclean
    }


# -- what is odd about devices ---------------------------------------------------------------------

NAMES = (
    b"with space", b"new\nline", b"quotes'\"", b"back\\slash", b"-dash", b"%s$HOME;`",
    "\u00fcml\u00e4ut".encode(), b"\xff\xfe", b"x" * 127,
)  # fmt: skip
ODD = Stack(
    "odd devices",
    Hardware((Disk("a"), Disk("b", 128), Disk("c", 64), Disk("d", 64))),
    (
        *ROOT_LAYERS,
        Multipath("lost", "disk/c"),
        Luks("above", "mapper/lost"),
        Ext4("mapper/above", "/lost"),
        Multipath("reached", "disk/d"),
        Ext4("mapper/reached", "/reached"),
        Written("disk/b"),
        *slices(
            "disk/b",
            paused=16,
            twofold=16,
            doomed=16,
            low1=4,
            low2=4,
            low3=4,
            locked=16,
            fmeta=4,
            fdata=8,
        ),
        *(Ext4(f"mapper/{name}", f"/{name}") for name in ("paused", "twofold", "doomed")),
        Luks("forgetful", "mapper/locked"),
        OddDevices("odd", NAMES),
        ThinPool("full", "mapper/fmeta", "mapper/fdata", 32, snapshots=0),
        Mounted("mapper/full-0", "/full"),
    ),
    files=(*OLD, *(File(f"/{at}/old", 300_000) for at in ("lost", "reached", "paused"))),
)
ODD_NEW = (
    *DIRTY,
    *(File(f"/{at}/new", MIB) for at in ("lost", "reached", "paused", "twofold", "doomed")),
    File("/full/new", 4 * MIB),
)
# Whoever has suspended them, and locked the encrypted device, is gone; so is the path of one, and
# the space of another.
LEFT = """
(dd if=/dev/zero of=/full/more bs=1M count=8 conv=fsync) 2>&- &
while /run/trouble status full | grep -q ' rw '; do sleep 0.1; done
/run/trouble message lost "fail_path $(cat /sys/block/dm-1/slaves/*/dev)"
for each in paused twofold forgetful; do /run/trouble suspend $each; done
/run/trouble message forgetful "key wipe"
"""


ODD_ROW = Row(
    "dm: odd devices",
    ODD,
    before=(LEFT,),
    files=ODD_NEW,
    deadline=20,
    tools=("trouble",),
    expected=Expected(
        unclean=("ext4:/lost", "ext4:/full"),
        lost=("/lost/new", "/full/new"),
        says=(
            "multipath lost has no path left: what was queued for it is lost",
            "thin-pool full has no space left: what does not fit into it is lost",
            "linear paused was suspended, and goes on",
            "linear twofold was suspended, and goes on",
            "crypt forgetful takes no I/O, and does not go on",
            "closed multipath reached",
            "closed linear doomed",
            "remaining 0, keys left 0",
        ),
    ),
)


@whole
def test_odd_devices_are_closed(happen: Happen) -> None:
    assert not happen(ODD_ROW).problems, f"see {ODD_ROW.folder}"


# -- thin volumes whose pool hangs, which do not even say what they are ----------------------------

HUNG = Stack(
    "LUKS on a thin pool that hangs",
    Hardware((Disk("a"), Disk("b", 128))),
    (
        *ROOT_LAYERS,
        Linear("hang", "disk/b"),
        *slices("mapper/hang", tmeta=4, tdata=96),
        ThinPool("thin", "mapper/tmeta", "mapper/tdata", 64, snapshots=4),
        Luks("inner", "mapper/thin-1"),
        Ext4("mapper/inner", "/hung"),
        Mounted("mapper/thin-2", "/other"),
    ),
    files=(*OLD, File("/hung/old", 300_000)),
)
HUNG_ROW = Row(
    "dm: hung: LUKS on a thin pool",
    HUNG,
    STUCK,
    before=(SUSPEND, writing("/hung"), writing("/other"), "sleep 1"),
    files=(*DIRTY, File("/hung/new", 300_000, secret=True)),
    deadline=DEADLINE,
    hangs=True,
    tools=("trouble",),
    expected=Expected(
        unclean=("ext4:/hung", "ext4:/other"),
        lost=("/hung/new",),
        says=("cannot read", "no answer"),
    ),
)


def test_a_pool_that_hangs_hides_no_key(happen: Happen) -> None:
    assert not happen(HUNG_ROW).problems, f"see {HUNG_ROW.folder}"
