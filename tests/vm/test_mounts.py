"""File systems of every kind, and mounts in every relation to one another."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import Btrfs, Ext4, Image, Linear, Luks, Modules, Nfs, Overlay, Swap, Xfs
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, DIRTY, ORACLE, Outcome, Row
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
        # What would be removed too early, if it were not known who stands on it.
        Linear("log", "disk/c"),
        Linear("realtime", "disk/d"),
        Linear("journal", "disk/f"),
        Luks("half", "disk/h"),
        Xfs("disk/b", "/xfs", log="mapper/log", realtime="mapper/realtime"),
        Ext4("disk/e", "/ext4", journal="mapper/journal"),
        Btrfs(("disk/g", "mapper/half"), ("/btrfs", "/volume")),
        Image("squashfs", "/images/squashfs", "/squashfs"),
        Image("erofs", "/volume/erofs", "/erofs"),
    ),
    files=(
        File("/data/old", 300_000),
        *(File(f"/{name}/old", 300_000) for name in ("xfs", "ext4", "btrfs", "volume")),
    ),
)
NEW = tuple(File(f"/{name}/new", 200_000) for name in ("xfs", "ext4", "btrfs", "volume"))

MOUNTS = Stack(
    "mounts",
    Hardware((Disk("a"), Disk("b", 32), Disk("c", 32), Disk("d", 48), Disk("e", 128))),
    (
        *ROOT_LAYERS,
        Ext4("disk/b", "/low1"),
        Ext4("disk/c", "/low2"),
        Ext4("disk/d", "/up"),
        Overlay(("/low1/a:b,c", r"/low2/d\e"), "/up", "/merged"),
        Swap("disk/e"),
    ),
    files=(
        File("/data/old", 300_000),
        *(File(f"/{name}/old", 300_000) for name in ("low1", "low2", "up", "merged")),
    ),
)
# Mounts of which one covers others: the same place twice, one above a tree of others, and one that
# was there before those it covers and was moved over them.
COVERED = r"""
mkdir -p /twice /cover/a/b /moved/x /elsewhere
for each in 1 2 3; do mount -o bind /low1 /twice; done
mount -o bind /low1 /cover/a/b
mount -o bind /low2 /cover/a/b/lost+found
mount -o bind /up /cover/a
mount -t tmpfs none /elsewhere
mount -o bind /low2 /moved/x
mount -o move /elsewhere /moved"""
# Peers and a slave, in which what is mounted in one place is mounted in the others too; and a tree
# that is bound with all that is mounted in it.
SHARED = r"""
mkdir -p /peer1 /peer2 /slave /all
mount -o bind /low1 /peer1
mount -o make-shared none /peer1
mount -o bind /peer1 /peer2
mount -o bind /peer1 /slave
mount -o make-slave none /slave
mkdir /peer1/sub /peer1/sub/sub
mount -o bind /low2 /peer1/sub
mount -o bind /up /peer1/sub/lost+found
[ "$(grep -c ' /slave/sub\| /peer2/sub' /proc/mounts)" = 4 ]
mount -o rbind /peer1 /all
mount -o make-shared none /all"""
ODD = r"""
odd=$(printf '/odd \\ # name\nof 040')
mkdir -p "$odd" "$odd/"
mount -o bind /low2 "$odd"
touch /file
mount -o bind /up/old /file"""
# Most of what is in the tmpfs is in swap: the group of processes that wrote it may keep only a
# little. To read it back takes a second and more, and memory that may not be there.
SWAPPED = r"""
mkdir -p /groups /swapped
mount -t cgroup2 none /groups
echo +memory >/groups/cgroup.subtree_control
mkdir /groups/small
echo 8M >/groups/small/memory.high
mount -t tmpfs -o size=100% none /swapped
(echo 0 >/groups/small/cgroup.procs; dd if=/dev/urandom of=/swapped/data bs=1M count=100)
[ "$(awk 'NR == 2 { print $4 }' /proc/swaps)" -gt 80000 ]"""
SERVED = Stack(
    "NFS",
    Hardware((Disk("a"), Disk("b", 64))),
    (*ROOT_LAYERS, Ext4("disk/b", "/srv"), Nfs("/srv", "/nfs"), Modules(("autofs4",))),
    files=(File("/data/old", 300_000), File("/nfs/old", 300_000)),
)
# An autofs at which something is mounted when it is looked at, and one below which names are: the
# daemon of both is there, and never answers. Who looks waits for ever.
AUTOFS = """
mkdir /direct /indirect
(exec -a @automount /run/mounts autofs /direct direct)
(exec -a @automount /run/mounts autofs /indirect indirect)
until [ "$(grep -c autofs /proc/mounts)" = 2 ]; do usleep 10000; done
for each in /direct/x /indirect/x; do timeout 1 ls $each 2>&- && exit 1; [ $? -gt 100 ]; done"""
SHOW_RECORDS = "echo 8 >/proc/sys/kernel/printk"

EVERY_KIND = Row(
    "file systems of every kind", FILE_SYSTEMS, files=(*DIRTY, *NEW), before=(SHOW_RECORDS,)
)
RELATIONS = Row(
    "mounts in every relation",
    MOUNTS,
    files=(*DIRTY, File("/low1/new", 100_000), File("/merged/new", 100_000)),
    before=(COVERED, SHARED, ODD, SWAPPED, SHOW_RECORDS),
)


SERVERS = Row(
    "autofs and NFS",
    SERVED,
    files=(*DIRTY, File("/nfs/new", 2 * MIB)),
    before=(AUTOFS, SHOW_RECORDS),
    tools=("mounts",),
)
GONE = "echo 0 >/proc/fs/nfsd/threads"
BUDGET = 40
SERVER_GONE = replace(
    SERVERS,
    name="an NFS server has gone",
    path=f"{DIRECT} --budget={BUDGET}",
    before=(GONE, SHOW_RECORDS),
    deadline=BUDGET + 10,
    hangs=True,
    expected=Expected(lost=("/nfs/new",), says=("it was given up",)),
)

# Beside the root, so that it can be closed though the root cannot.
NAMESPACES = Stack(
    "namespaces",
    Hardware((Disk("a"), Disk("b", 64))),
    (*ROOT_LAYERS, Luks("other", "disk/b"), Ext4("mapper/other", "/other")),
    files=(File("/data/old", 300_000), File("/other/old", 300_000)),
)
SHARE = "mount -o make-rshared none /"
KEEP = "(exec -a @keeper /run/mounts keep)"
HOLD = "(exec -a @holder /run/mounts hold)"


def namespace(name: str, *before: str, says: tuple[str, ...]) -> Row:
    """A row in which a daemon that stays has the root mounted where nobody can unmount it."""
    return Row(
        name,
        NAMESPACES,
        files=(*DIRTY, File("/other/new", 100_000)),
        before=before,
        tools=("mounts",),
        expected=Expected(says=("wiped the key of crypt crypt", "keys left 0", *says)),
    )


ELSEWHERE = [
    *seldom(
        namespace("a namespace shares what is unmounted", SHARE, KEEP, says=("closed crypt other",))
    ),
    namespace(
        "a namespace shares nothing",
        KEEP,
        says=("wiped the key of crypt other", "held by mount namespace of mounts["),
    ),
    namespace(
        "a namespace is held by an open file",
        HOLD,
        says=("wiped the key of crypt other", "held by a mount namespace that mounts["),
    ),
]

# The root goes, though what is mounted on it stays.
IN_USE = replace(
    namespace("a mount in use is moved aside", says=()),
    before=("(exec -a @daemon /run/holder /other/old) &",),
    tools=("holder",),
    expected=Expected(says=("closed crypt crypt", "remains ext4 /other: busy; held by holder")),
)


def closes(outcome: Outcome) -> list[dict[str, str]]:
    """What was closed, or would not be, in order, from the records in the kernel's log."""
    records = re.findall(r"finalstage: (\{.*\})\r", outcome.console)
    found = [each for each in map(json.loads, records) if each["event"] == "close"]
    assert len(found) > 5
    return found


def refusals(outcome: Outcome) -> list[str]:
    """What would not close when its turn came."""
    return [f"{each['layer']}: {each['error']}" for each in closes(outcome) if each["error"]]


def test_closes_file_systems_before_all_that_they_lie_on(happen: Happen) -> None:
    outcome = happen(EVERY_KIND)
    assert not outcome.problems, f"see {EVERY_KIND.folder}"
    assert refusals(outcome) == []


def test_closes_mounts_in_every_relation_in_order(happen: Happen) -> None:
    outcome = happen(RELATIONS)
    assert not outcome.problems, f"see {RELATIONS.folder}"
    # A mount is busy while somebody looks at its peer: propagate_mount_busy() in fs/pnode.c.
    assert [x for x in refusals(outcome) if not re.match("ext4 /(peer|slave|all)", x)] == []
    order = [each["layer"] for each in closes(outcome)]
    assert order.index("overlay /merged") < min(order.index(f"ext4 /{x}") for x in ("low1", "low2"))
    assert order.index("overlay /merged") < order.index("ext4 /up")
    (swap,) = [layer for layer in order if layer.startswith("swap ")]
    assert order.index("tmpfs /swapped") < order.index(swap)


def test_closes_what_is_served_and_never_asks_a_daemon(happen: Happen) -> None:
    """The exports of a server that has been stopped are dropped a moment later: that takes a
    second try. What waits for the daemon of an autofs would never come back."""
    outcome = happen(SERVERS)
    assert not outcome.problems, f"see {SERVERS.folder}"
    assert set(refusals(outcome)) <= {"ext4 /srv: busy"}
    assert "no answer" not in outcome.console


def test_what_was_not_unmounted_is_noticed(happen: Happen) -> None:
    """A file that is synced by itself is in the log, or the journal, and nowhere else."""
    sync = "for each in xfs ext4 btrfs; do dd if=/dev/zero of=/$each/log bs=4k count=1 conv=fsync"
    row = Row(
        "control: reset, file systems of every kind",
        FILE_SYSTEMS,
        "echo b >/proc/sysrq-trigger",
        "reboot",
        before=(f"{sync}; done",),
        to=ORACLE,
    )
    unclean = {" ".join(line.split()[:2]) for line in happen(row).verdict.unclean}
    assert unclean >= {
        "xfs:/xfs log",
        "ext4:/ext4 needs_recovery",
        "ext4:/ext4 journal-start",
        "btrfs:/btrfs log-root",
    }


@pytest.mark.parametrize("row", [*ELSEWHERE, IN_USE], ids=lambda row: row.slug)
def test_what_stays_holds_as_little_as_can_be(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


def test_a_server_that_has_gone_is_not_waited_for(happen: Happen) -> None:
    outcome = happen(SERVER_GONE)
    assert not outcome.problems, f"see {SERVER_GONE.folder}"
