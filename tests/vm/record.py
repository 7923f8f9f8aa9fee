"""`python -m tests.vm.record NAME…`: record machines of these names (tests/unit/recorded) anew.

Each is built, recorded as it stands, sent through the launcher into the tree, where something that
obeys orders waits in place of the stage, and recorded again. `all` stands for all of them. Without
a name only the drawings are made anew, from what was recorded.
"""

from __future__ import annotations

import ast
import asyncio
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from finalstage.stack import Stack as Scanned
from tests.unit import recorded
from tests.unit.recorded import Recording
from tests.vm import (
    python,
    stacks,
    test_bcache,
    test_dm,
    test_faults,
    test_mixtures,
    test_mounts,
    test_swap_and_loop,
)
from tests.vm.cache import BUILD, PROJECT
from tests.vm.guest import guest
from tests.vm.hardware import Disk, Hardware
from tests.vm.rows import DIRECT, STAGING
from tests.vm.stacks import Stack, rooted
from tests.vm.standing import Tray, saved, standing
from tests.vm.states import INITRAMFS
from tests.vm.tools import tool
from tests.vm.turns import Turn

SYSTEMS: dict[str, Stack] = {
    "bcache": test_bcache.BCACHE,
    "busy": stacks.MAIN_BUSY,
    "file-systems": test_mounts.FILE_SYSTEMS,
    "initramfs": rooted(stacks.MAIN, INITRAMFS),
    "inactive-table": test_faults.INACTIVE,
    "live": test_mixtures.LIVE,
    "mirror-of-volumes": test_faults.MIRROR_OF_VOLUMES,
    "mounts": test_mounts.MOUNTS,
    "multipath": test_faults.MULTIPATH,
    "network-disk": replace(
        test_faults.beside("LUKS on nbd", *test_faults.NETWORK, top="mapper/crypt"),
        hardware=Hardware((Disk("a"), Disk("b", test_faults.SMALL, "nbd"))),
    ),
    "nvme-and-scsi": stacks.BUSES,
    "odd-devices": test_dm.ODD,
    "on-bcache": test_mixtures.ON_BCACHE,
    "on-thin": test_mixtures.ON_THIN,
    "partitions": test_swap_and_loop.PARTED,
    "striped": stacks.STRIPED,
    "sums": stacks.SUMS,
    "swaps": test_swap_and_loop.SWAPS,
    "targets": test_dm.TARGETS,
}
PROGRAM = "tests.inside.record"
PLACE = "/python"
LISTENER = Path(__file__).resolve().parent / "initramfs/lib/guest/listen"
PREPARE = f"""{STAGING}
cp -a /run/tray/python /run/initramfs{PLACE}
cp /run/tray/busybox /run/tray/stage /run/initramfs/
chmod 755 /run/initramfs/busybox /run/initramfs/stage
mv /run/initramfs/stage /run/initramfs/usr/lib/finalstage/stage
rm -r /run/tray"""


async def record(stack: Stack) -> tuple[Recording, Recording]:
    """Return a machine of this stack as it stands, and as the stage finds it."""
    tray = Tray(
        {"tree": PROJECT / "dist" / "tree", "python": python.folder(PROGRAM)},
        {
            "busybox": (guest().oracle / "bin" / "busybox").read_bytes(),
            "stage": b"#!/busybox sh\n" + LISTENER.read_bytes(),
            "trouble": tool("trouble"),
        },
    )
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        async with Turn():
            state = await saved(stack)
            async with standing(stack, state, tray, Path(folder)) as started:
                machine = started.machine
                await machine.run(PREPARE)
                said = await machine.run(python.command(f"/run/initramfs{PLACE}", PROGRAM))
                before = heard(said, recorded.look)
                await machine.become(DIRECT.format(verb="poweroff"))
                await machine.ready()
                said = await machine.run(python.command(PLACE, PROGRAM, "pivoted"))
                return before, heard(said, recorded.look_pivoted)


def heard(said: str, look: Callable[[Recording], Scanned]) -> Recording:
    """Return what a guest has told, once scan sees the same in it as it did there."""
    lines = [ast.literal_eval(line) for line in said.splitlines()]
    recording = recorded.heard(lines)
    seen = look(recording)
    there = [line[1:] for line in lines if line[0] in ("layer", "problem")]
    here: list[tuple[object, ...]] = [(each.id, each.title, each.below) for each in seen.layers]
    here += [(problem,) for problem in seen.problems]
    if here != there:
        raise ValueError(f"scan saw {there} in the guest, and in the recording {here}")
    return recording


def main(names: list[str]) -> int:
    """Write the recordings and their drawings."""
    unknown = set(names) - SYSTEMS.keys() - {"all"}
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are", *SYSTEMS, "all")
        return 2
    for name in SYSTEMS if "all" in names else names:
        text = recorded.write(*asyncio.run(record(SYSTEMS[name])))
        (recorded.HERE / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}: {len(text)} bytes")
    for name in recorded.names():
        (recorded.HERE / f"{name}.drawing").write_text(recorded.drawing(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
