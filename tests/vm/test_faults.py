"""What hangs and breaks: no key stays, the machine goes down in time, and the rest is whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.faults import break_, freeze
from tests.vm.hardware import MIB, PROCESSOR, Disk, Hardware
from tests.vm.layers import (
    Crypt,
    Ext4,
    Integrity,
    Layer,
    Linear,
    Luks,
    Lvm,
    Modules,
    Multipath,
    NetworkDisk,
    Raid,
)
from tests.vm.part import seldom
from tests.vm.rows import (
    DIRECT,
    DIRTY,
    IN_PLACE,
    NO_PROC,
    NO_SYS,
    RETURN_SOON,
    STUBBORN,
    Row,
    leave,
)
from tests.vm.stacks import MAIN, SUMS, Stack, on, rooted

BUDGET = 26
# Ten seconds for what is not in the stage's hands: emulated machines share two processors.
DEADLINE = BUDGET + 10
BOUNDED = f"{DIRECT} --budget={BUDGET} --timeout=1s"


def failing(phases: str, path: str = BOUNDED) -> str:
    """The same with phases that fail."""
    return path.replace("exec ", f"FINALSTAGE_TEST=1 FINALSTAGE_FAULT=fail@{phases} exec ")


# A suspended device stands for one that hangs, and so must not simply be resumed.
STUCK = failing("phase:unblock")
# Nothing is freed before sealing, which then has to, and needs more time.
UNFREED = failing("phase:unblock+phase:free").replace(f"--budget={BUDGET}", "--budget=40")
# Nothing is done about keys: then they must be found.
UNSEALED = failing("phase:unblock+phase:free+phase:seal")
SMALL = 160
PAIR = Hardware((Disk("a"), Disk("b", SMALL)))

# Shell text for `before`.
SUSPEND = "/run/trouble suspend hang"
HUNG_TASK_PANIC = "cd /proc/sys/kernel; echo 3 >hung_task_timeout_secs; echo 1 >hung_task_panic"
LOSE = "echo faulty >/sys/block/md0/md/dev-$(basename $(readlink /dev/disk/b))/state"
RESYNC = """
cd /sys/block/md0/md
echo 1000 >sync_speed_max
echo frozen >sync_action
echo 0 >resync_start
echo idle >sync_action
sleep 1
grep resync /proc/mdstat"""


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


def hung(name: str, stack: Stack, *unclean: str, path: str = STUCK) -> Row:
    """A row in which `hang` is suspended below a busy file system."""
    return Row(
        name,
        stack,
        path,
        before=(SUSPEND, writing("/hung")),
        files=(*DIRTY, HUNG_NEW),
        deadline=DEADLINE,
        hangs=True,
        tools=("trouble",),
        expected=Expected(unclean=("ext4:/hung", *unclean), lost=(HUNG_NEW.path,)),
    )


def unfreed(name: str, stack: Stack) -> Row:
    """The same with only sealing to free it."""
    return replace(hung(name, stack, path=UNFREED), deadline=50)


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
INTEGRITY = beside(
    "keyed dm-integrity", HANG, Integrity("sums", "mapper/hang", 96), top="mapper/sums"
)
AUTHENTICATED = beside(
    "authenticated dm-crypt",
    HANG,
    Integrity("tags", "mapper/hang", 96, keyed=False),
    Crypt("crypt", "mapper/tags", 96, 1, authenticated=True),
    top="mapper/crypt",
)
VOLUME = Lvm("vg", ("mapper/crypt",), (("data", "-L 96M"),))
LVM = beside("LVM on LUKS", HANG, Luks("crypt", "mapper/hang"), VOLUME, top="vg/data")


def in_place(name: str, stack: Stack) -> Row:
    """The same where systemd, which would wait for ever by itself, executes finalstage at once."""
    path = failing("phase:unblock", f"{RETURN_SOON} --budget={BUDGET}")
    row = hung(name, stack, path=path)
    return replace(row, before=(*row.before, IN_PLACE))


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


def hung_root(name: str, stack: Stack, path: str = STUCK) -> Row:
    """A row in which `hang` is suspended below the root."""
    return Row(
        name,
        stack,
        path,
        before=(SUSPEND, writing("/data")),
        files=(*DIRTY, OTHER_NEW),
        deadline=DEADLINE,
        hangs=True,
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


def half_hung(name: str, stack: Stack, path: str = STUCK) -> Row:
    """A row in which one half of a mirror hangs below the root: nothing may be lost."""
    return Row(
        name,
        stack,
        path,
        before=(SUSPEND, writing("/data")),
        deadline=DEADLINE,
        hangs=True,
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


def half_frozen(name: str, bus: str) -> Row:
    """A row in which a disk below the array below all others answers nothing any more."""
    machine = Hardware((Disk("a"), Disk("b", bus=bus)))
    stack = replace(MAIN, name=f"main, half on {bus}", hardware=machine)
    return Row(
        name,
        stack,
        BOUNDED,
        before=(writing("/data"),),
        faults=(freeze("b"),),
        deadline=DEADLINE,
        hangs=True,
        expected=Expected(unclean=("md0",)),
    )


MULTIPATH = beside(
    "LUKS on multipath", Multipath("hang", "disk/b"), Luks("crypt", "mapper/hang"),
    top="mapper/crypt",
)  # fmt: skip
NO_PATH = '/run/trouble message hang "fail_path $(cat /sys/block/dm-1/slaves/*/dev)"'

# -- disks that answer with errors -----------------------------------------------------------------

STARTED = b"finalstage 0."
BROKEN = beside("plain LUKS", Luks("crypt", "disk/b"), top="mapper/crypt")
PANICKING = replace(
    BROKEN,
    name="plain LUKS, errors=panic",
    layers=(*BROKEN.layers[:-1], Ext4("mapper/crypt", "/hung", "errors=panic")),
)


def broken(name: str, stack: Stack, after: bytes = b"", path: str = BOUNDED) -> Row:
    """A row in which the disk below the LUKS answers everything with an error."""
    before = (STUBBORN, writing("/hung"))
    return replace(hung(name, stack, path=path), before=before, faults=(break_("b", after),))


# -- whatever else can be wrong with a machine -----------------------------------------------------

FUSED = replace(MAIN, name="main, fuse", layers=(*MAIN.layers, Modules(("fuse",))))
FUSE = "mkdir /data/fuse; (exec -a {name} /run/trouble fuse /data/fuse)"
NO_DEV = "mount -t tmpfs none /dev"
# No console and no standard streams.
DUMB = f"rm /dev/console; exec <&- >&- 2>&-; {BOUNDED}"
STAYS = "(exec -a @daemon /run/trouble unshare)"
# Not for `before`: there are more orders then, and each takes a process.
COMET = "/run/trouble comet"
BOMB = "echo 600 >/proc/sys/kernel/pid_max; /run/trouble bomb"
PROCESSES = "for i in $(seq 2000); do sleep 9999 & done"


def odd(name: str, *before: str, stack: Stack = MAIN, path: str = BOUNDED) -> Row:
    """A row in which all must be left as after a clean close."""
    return Row(name, stack, path, before=before, deadline=DEADLINE, tools=("trouble",))


ROWS = [
    hung("hung: LUKS", LUKS),
    *seldom(
        hung("hung: LUKS1", LUKS1),
        hung("hung: key in the table", NO_KEYRING),
        hung("hung: two segments", SEGMENTS),
        hung("hung: inactive table", INACTIVE),
    ),
    hung("hung: keyed dm-integrity", INTEGRITY),
    *seldom(
        hung("hung: authenticated dm-crypt", AUTHENTICATED),
        unfreed("sealed: keyed dm-integrity on what hangs", INTEGRITY),
        unfreed("sealed: authenticated dm-crypt on what hangs", AUTHENTICATED),
        hung("hung: LVM on LUKS", LVM),
        hung_root("hung: root on LUKS", ROOT),
        hung_root("hung: root on LVM on LUKS", ROOT_LVM),
        half_hung("hung: one half of RAID1 on LUKS", MIRROR),
        half_hung("hung: one half of RAID1 on LVM on LUKS", MIRROR_OF_VOLUMES),
        replace(
            hung("hung: both halves of RAID1 on LUKS", DEAD_MIRROR, "md0"),
            before=(SUSPEND, f"{SUSPEND}2", writing("/hung")),
        ),
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
    *seldom(
        frozen("frozen: virtio-scsi", "scsi"),
        frozen("frozen: NVMe", "nvme"),
        frozen("frozen: NBD", "nbd", *NETWORK),
        half_frozen("frozen: one half of a RAID1 of virtio-scsi", "scsi"),
        half_frozen("frozen: one half of a RAID1 of NVMe", "nvme"),
        replace(
            half_frozen("frozen: one half of a RAID1 of virtio-blk", "virtio"),
            # The array waits for ever for what it has sent to both, and so does the journal.
            expected=Expected(
                unclean=("md0", "ext4:/"),
                lost=tuple(file.path for file in DIRTY),
                keys_remain=True,
            ),
        ),
        replace(
            hung("multipath without a path queues", MULTIPATH), before=(NO_PATH, writing("/hung"))
        ),
        broken("errors: LUKS", BROKEN),
    ),
    broken("errors: from the start on", BROKEN, STARTED),
    *seldom(
        broken("errors: errors=panic", PANICKING, STARTED),
        replace(
            hung("hung: the kernel panics at hung tasks", LUKS),
            before=(HUNG_TASK_PANIC, SUSPEND, writing("/hung")),
        ),
    ),
    replace(odd("a RAID has lost a member", LOSE), expected=Expected(unclean=("md0",))),
    *seldom(
        replace(odd("a RAID is resyncing", RESYNC), expected=Expected(unclean=("md0",))),
        odd("a FUSE server ends when told so", FUSE.format(name="server"), stack=FUSED),
    ),
    odd("a FUSE server hangs", FUSE.format(name="@server"), stack=FUSED),
    odd("a process forks without end", path=f"{COMET}; {BOUNDED}"),
    *seldom(
        odd("processes fork without end", path=f"{BOMB}; {BOUNDED}"),
        odd("another mount namespace", "/run/trouble unshare"),
        odd("a mount namespace without processes", "touch /run/ns; /run/trouble unshare /run/ns"),
    ),
    replace(
        odd("a storage daemon in another mount namespace", STAYS),
        expected=Expected(says=("mount namespace of trouble", "keys left 0")),
    ),
    *seldom(
        replace(
            odd("a storage daemon, keyed sums", STAYS, stack=SUMS),
            expected=Expected(says=("wiped the key of integrity sums", "keys left 0")),
        ),
        odd("2000 processes", PROCESSES, stack=on(MAIN, memory=1024)),
        replace(hung("hung: no /proc", LUKS), before=(SUSPEND, writing("/hung"), NO_PROC)),
        replace(hung("hung: no /sys", LUKS), before=(SUSPEND, writing("/hung"), NO_SYS)),
        odd("/dev is empty", path=f"{NO_DEV}; {BOUNDED}"),
        hung("hung: /dev is empty", LUKS, path=f"{NO_DEV}; {STUCK}"),
    ),
    odd("no console", path=DUMB),
    replace(odd("32 MiB of memory left", leave(32)), tools=("fill",)),
    *seldom(odd("the tree is read-only", "mount -o remount,ro /run/initramfs")),
    odd("the tree is full", "dd if=/dev/zero of=/run/initramfs/full bs=1M 2>&- || true"),
    in_place("in place of systemd-shutdown, LUKS hangs", LUKS),
    *seldom(
        hung("hung: two processors", on(LUKS, processors=2)),
        hung("hung: no AES instructions", on(LUKS, processor=f"{PROCESSOR},-aes")),
        hung("hung: one processor", on(LUKS, processors=1)),
        hung("hung: four processors", on(LUKS, processors=4)),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_no_key_stays_and_the_rest_is_whole(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
    assert not outcome.copies.plaintext or "PLAINTEXT MAY REMAIN" in outcome.console


UNMOUNTED = Stack(
    "LUKS without a file system",
    PAIR,
    (*ROOT_LAYERS, HANG, Luks("crypt", "mapper/hang")),
    files=OLD,
)


@pytest.mark.parametrize("root", ["glibc", *seldom("newer-glibc")])
def test_systemd_shutdown_never_hands_over_above_what_hangs(happen: Happen, root: str) -> None:
    """Its PID 1 itself calls fsync(2) for each dm device before it removes it: delete_dm() in
    src/shutdown/umount.c, later detach-dm.c. That never comes back, and nobody can interrupt it.

    For what is mounted it is patient first: 90 seconds, which cannot be set, for each remount. So
    this is the shortest way there. A hook in /usr/lib/systemd/system-shutdown comes only later.
    What helps is to be executed in its place (in_place); the hardware's watchdog, which it no
    longer feeds, restarts the machine, and leaves the keys in RAM.
    """
    stack = rooted(UNMOUNTED, root)
    path, name = RETURN_SOON, f"control: systemd-shutdown hangs, {root}"
    row = Row(name, stack, path, before=(SUSPEND,), deadline=20, hangs=True, tools=("trouble",))
    outcome = happen(row)
    assert outcome.end.kind == "deadline"
    assert "Detaching DM" in outcome.console
    assert "finalstage" not in outcome.console
    assert outcome.copies.of_keys


CONTROLS = [
    hung("control: hung: LUKS, not sealed", LUKS, path=UNSEALED),
    *seldom(
        hung("control: hung: key in the table, not sealed", NO_KEYRING, path=UNSEALED),
        hung("control: hung: inactive table, not sealed", INACTIVE, path=UNSEALED),
        replace(
            odd("control: a storage daemon, not sealed", STAYS, path=UNSEALED), deadline=DEADLINE
        ),
    ),
    # Their keys look like those above.
    *seldom(
        hung("control: hung: two segments, not sealed", SEGMENTS, path=UNSEALED),
        hung_root("control: hung: root on LUKS, not sealed", ROOT, path=UNSEALED),
        half_hung("control: hung: one half of RAID1, not sealed", MIRROR, path=UNSEALED),
        frozen("control: frozen: virtio-scsi, not sealed", "scsi", path=UNSEALED),
        frozen("control: frozen: NBD, not sealed", "nbd", *NETWORK, path=UNSEALED),
    ),
]


@pytest.mark.parametrize("row", CONTROLS, ids=lambda row: row.slug)
def test_a_key_that_is_not_sealed_is_found(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.copies.halves >= 2
    assert outcome.copies.round_keys


@pytest.mark.parametrize(
    "row",
    [
        hung("control: hung: keyed dm-integrity, not sealed", INTEGRITY, path=UNSEALED),
        *seldom(
            hung("control: hung: authenticated dm-crypt, not sealed", AUTHENTICATED, path=UNSEALED),
            odd(
                "control: a storage daemon, keyed sums, not sealed",
                STAYS,
                stack=SUMS,
                path=UNSEALED,
            ),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_a_key_for_sums_that_is_not_sealed_is_found(happen: Happen, row: Row) -> None:
    """As it is, and as the states of the inner and the outer hash."""
    outcome = happen(row)
    keys = len(row.stack.mac_keys)
    assert outcome.copies.mac_keys >= keys
    assert outcome.copies.mac_states >= 2 * keys
