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
ARRAY = "cat /sys/block/md0/md/array_state"


async def flushed(living: Living, script: str) -> set[str]:
    """Run shell text; return the disks that were told to write out their caches meanwhile."""
    before = await living.machine.flushes()
    await living.run(script)
    after = await living.machine.flushes()
    return {disk for disk in after if after[disk] != before[disk]}


def test_what_the_page_says_of_writing_out() -> None:
    said: dict[str, object] = {}

    async def act(living: Living) -> None:
        said["written"] = await flushed(living, WRITE.format("/"))
        said["remounted"] = await flushed(living, "mount -o remount,ro /")
        said["array"] = (await living.run(ARRAY)).strip()
        said["synced after"] = await flushed(living, "sync")
        idle = f"until [ $({ARRAY}) = clean ]; do :; done"
        said["array is clean"] = await flushed(living, idle)
        said["without barriers"] = await flushed(
            living, f"{WRITE.format('/bare')}; mount -o remount,ro /bare; sync; umount /bare"
        )
        said["the disk itself"] = await flushed(living, "sync /dev/disk/c")
        said["xfs"] = await flushed(living, f"{WRITE.format('/xfs')}; mount -o remount,ro /xfs")
        await living.machine.qmp("stop")
        copies = living.ram()
        said["in RAM"] = (bool(copies.of_keys), bool(copies.plaintext))

    live(STACK, act)
    assert said == {
        "written": set(),
        "remounted": {"a", "b"},
        "array": "active",
        "synced after": set(),
        "array is clean": {"a", "b"},
        "without barriers": set(),
        "the disk itself": {"c"},
        "xfs": {"d"},
        "in RAM": (True, True),
    }
