"""What finalstage-answers(7) says of a real kernel, in one guest: so that the page can go red.

A disk's cache is written out by FLUSH, which QEMU counts for each disk.
"""

from __future__ import annotations

from dataclasses import replace

from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import Ext4, Xfs
from tests.vm.living import Living, live
from tests.vm.stacks import MAIN

STACK = replace(
    MAIN,
    name="main, and file systems beside it",
    hardware=Hardware((Disk("a"), Disk("b"), Disk("c", 64), Disk("d", 320))),
    layers=(*MAIN.layers, Ext4("disk/c", "/bare", options="barrier=0"), Xfs("disk/d", "/xfs")),
)
WRITE = "dd if=/dev/urandom of={}/more bs=1M count=4 2>/dev/null"
MD = "/sys/block/md0/md"


async def flushed(living: Living, disks: str, script: str) -> str:
    """Run shell text; return which of some disks were told to write out their caches meanwhile."""
    before = await living.machine.flushes()
    await living.run(script)
    after = await living.machine.flushes()
    return "".join(disk for disk in disks if after[disk] != before[disk])


def test_what_the_page_says_of_writing_out() -> None:
    said: dict[str, object] = {}

    async def act(living: Living) -> None:
        await living.run(f"echo 600 >{MD}/safe_mode_delay; {WRITE.format('/')}")
        said["remounted"] = await flushed(living, "ab", "mount -o remount,ro /")
        said["synced after"] = await flushed(living, "ab", "sync")
        said["array"] = (await living.run(f"cat {MD}/array_state")).strip()
        clean = f"[ $(cat {MD}/array_state) = clean ]"
        idle = f"echo 0.001 >{MD}/safe_mode_delay; until {clean}; do :; done"
        said["array is clean"] = await flushed(living, "ab", idle)
        bare = f"{WRITE.format('/bare')}; mount -o remount,ro /bare; sync; umount /bare"
        said["without barriers"] = await flushed(living, "c", bare)
        said["the disk itself"] = await flushed(living, "c", "sync /dev/disk/c")
        xfs = f"{WRITE.format('/xfs')}; mount -o remount,ro /xfs"
        said["xfs"] = await flushed(living, "d", xfs)
        await living.machine.qmp("stop")
        copies = living.ram()
        said["in RAM"] = (bool(copies.of_keys), bool(copies.plaintext))

    live(STACK, act)
    assert said == {
        "remounted": "ab",
        "synced after": "",
        "array": "active",
        "array is clean": "ab",
        "without barriers": "",
        "the disk itself": "c",
        "xfs": "d",
        "in RAM": (True, True),
    }
