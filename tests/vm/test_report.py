"""The report of a shutdown, on a partition of its own. In an EFI variable, and in pstore:
test_firmware."""

from __future__ import annotations

from dataclasses import replace

from finalstage.cli.shutdown import read
from finalstage.keep import EMPTY, MOST_ON_DEVICE
from tests.vm import content, ram
from tests.vm.conftest import Happen
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import Gpt
from tests.vm.rows import DIRECT, STUBBORN, Row
from tests.vm.stacks import MAIN_BUSY

SPARE, PLACE = Disk("r", 16), "/dev/disk/r-1"
BESIDE = replace(
    MAIN_BUSY,
    name="main, swap and nested mounts, a partition to spare",
    hardware=Hardware((*MAIN_BUSY.hardware.disks, SPARE)),
    layers=(*MAIN_BUSY.layers, Gpt("disk/r", SPARE.size, (4,))),
)
ON_PARTITION = Row(
    "report on a partition",
    BESIDE,
    f"{DIRECT} --kill-after=1s --report.place={PLACE}",
    before=(STUBBORN,),
)


def partition(row: Row) -> bytes:
    """What a machine has left at the beginning of the partition."""
    return (row.folder / f"{SPARE.name}.raw").read_bytes()[MIB:][:EMPTY]


def test_it_is_kept_on_a_partition(happen: Happen) -> None:
    outcome = happen(ON_PARTITION)
    assert not outcome.problems
    assert f"kept the report on {PLACE}" in outcome.console
    data = partition(ON_PARTITION)
    assert not any(data[MOST_ON_DEVICE:])
    found = read(data)
    assert (found.verb, found.remaining, found.keys_left) == ("poweroff", 0, 0)
    assert "killing what does not end by itself: sh[" in "".join(x.words for x in found.words)
    layers = {step.layer for step in found.steps if not step.error}
    assert layers >= {"ext4 /", "crypt crypt", "linear vg-swap", "raid1 md0", "disk vdb"}
    stack = ON_PARTITION.stack
    wanted = ram.patterns(stack.keys, content.PLAINTEXT, unwritten=stack.unwritten_keys)
    wanted.append(("plaintext", b"crypt crypt"))  # the control
    copies = ram.search(iter([data]), wanted)
    assert copies.of_keys == 0
    assert copies.plaintext == data.count(b"crypt crypt") > 0
