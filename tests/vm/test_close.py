"""`finalstage close` on a machine that goes on living: in use, interrupted, killed, with a disk
that hangs and is then pulled out; a second boot looks at what was left."""

from __future__ import annotations

import re

from tests.vm.content import File
from tests.vm.faults import freeze, unplug
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import Bind, Ext4, Loop, Luks, Lvm, Raid, Swap
from tests.vm.living import Answer, Living, live
from tests.vm.stacks import Stack
from tests.vm.states import INITRAMFS

STACK = Stack(
    "closed by hand",
    Hardware((Disk("a", bus="scsi"), Disk("b", bus="scsi"))),
    (
        Raid("md0", ("disk/a", "disk/b")),
        Luks("crypt", "md0"),
        Lvm("vg", ("mapper/crypt",), (("root", "-L 160M"), ("swap", "-L 32M"), ("srv", "-L 64M"))),
        Ext4("vg/root", "/"),
        Swap("vg/swap"),
        Ext4("vg/srv", "/srv"),
        Bind("/data", "/srv/data"),
        Loop("loop0", "/srv/image", 16),
    ),
    root=INITRAMFS,
)
NEW = File("/srv/new", 4 * MIB)
WRITE = f"mkdir /run/tray; mv /run/{NEW.handed[0]} /run/tray; {NEW.write('/sysroot')}"
ALL = ("close", "crypt", "--below", "--yes")


async def faulty(living: Living, fault: str, *words: str) -> Answer:
    """Call it with a fault on purpose."""
    with_fault = f"FINALSTAGE_TEST=1 FINALSTAGE_FAULT={fault} /run/finalstage {' '.join(words)}"
    said = await living.run(f"{with_fault} </dev/null 2>&1 && s=0 || s=$?; printf '\n%s\n' $s")
    text, _, status = said.rstrip("\r\n").rpartition("\n")
    return Answer(text, int(status))


async def names(living: Living) -> str:
    """What there still is of the stack."""
    return await living.run("dmsetup ls; cat /proc/mdstat /proc/swaps /proc/mounts; losetup -a")


def test_in_use_interrupted_and_killed_it_can_be_called_again() -> None:
    async def act(living: Living) -> None:
        await living.run(WRITE)
        before = await names(living)
        await living.run("cd /sysroot/srv; sleep 1000 & echo $! >/run/sleep; cd /")
        answer = await living.call(*ALL)
        assert answer.status == 1
        assert re.search(r"cannot close ext4 \S+srv: held by sleep\[\d+\] \(work", answer.text)
        assert await names(living) == before  # nothing, not even what nobody held
        await living.run("kill $(cat /run/sleep)")

        hang = "FINALSTAGE_TEST=1 FINALSTAGE_FAULT=hang@umount:/sysroot/srv"
        words = " ".join(ALL)
        await living.run(f"{hang} setsid /run/finalstage {words} </dev/null >/run/said 2>&1 &")
        await living.machine.seen(b"hang at umount:/sysroot/srv")
        said = await living.run(
            "pid=$(ps -o pid,args | awk '$2 == \"/run/finalstage\" {print $1; exit}')\n"
            "kill -INT -$pid; while [ -d /proc/$pid ]; do usleep 50000; done; cat /run/said"
        )
        assert "closed: ext4 /sysroot/srv/data" in said
        assert "ext4 /sysroot/srv stays: no answer" in said
        assert re.search(r"not closed: .*raid1 md0\r?\n\S+ interrupted", said)
        assert "vg-srv" in await names(living)

        answer = await faulty(living, "kill@dm_remove", *ALL)
        assert answer.status == 1
        assert "killed in the middle of it" in answer.text
        assert "crypt" in await names(living)

        answer = await living.call(*ALL)
        assert (answer.status, "closed" in answer.text) == (0, True), answer.text
        left = await names(living)
        assert not [word for word in ("crypt", "md0", "vg", "loop0") if word in left], left
        verdict = await living.judged(NEW)
        assert verdict.unclean == [] and verdict.damaged == []

    live(STACK, act, files=(NEW,))


def test_a_disk_that_hangs_is_left_behind_and_pulled_out_the_other_has_all() -> None:
    async def act(living: Living) -> None:
        await living.run(WRITE)
        await freeze("b").strike(living.machine)
        answer = await living.call(*ALL, "--timeout=12s")
        assert answer.status == 1
        assert "was left behind" in answer.text
        await unplug("b").strike(living.machine)
        await living.run("while [ -e /sys/block/sdb ]; do usleep 50000; done")
        # What hung goes on by itself now, and holds its layer until then.
        await living.run("while grep -qs '(finalstage)' /proc/[0-9]*/stat; do usleep 50000; done")
        answer = await living.call(*ALL)
        assert answer.status == 0, answer.text
        left = await names(living)
        assert not [word for word in ("crypt", "md0", "vg") if word in left], left
        verdict = await living.judged(NEW)
        assert verdict.damaged == []
        assert [line for line in verdict.unclean if not line.startswith("md0 ")] == []

    live(STACK, act, files=(NEW,))
