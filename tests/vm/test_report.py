"""The report of a shutdown, on a partition of its own. That in an EFI variable: test_firmware."""

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

SPARE = Disk("r", 16)
BESIDE = replace(
    MAIN_BUSY,
    name="main, swap and nested mounts, a partition to spare",
    hardware=Hardware((*MAIN_BUSY.hardware.disks, SPARE)),
    layers=(*MAIN_BUSY.layers, Gpt("disk/r", SPARE.size, (4, 4))),
)
FULL = "echo 'somebody has something here' | dd of=/dev/disk/r-2 seek=200 conv=fsync"
ON_PARTITION = Row(
    "report on a partition",
    BESIDE,
    f"{DIRECT} --kill-after=1s --report.place=/dev/disk/r-1",
    before=(STUBBORN,),
)
ON_A_FULL_ONE = Row(
    "report on a partition that holds something",
    BESIDE,
    f"{DIRECT} --report.place=/dev/disk/r-2",
    before=(FULL,),
)


def partition(row: Row, number: int) -> bytes:
    """What a machine has left at the beginning of one of the two, each of 4 MiB."""
    image = row.folder / f"{SPARE.name}.raw"
    return image.read_bytes()[(4 * number - 3) * MIB :][:EMPTY]


def test_it_is_kept_on_a_partition(happen: Happen) -> None:
    outcome = happen(ON_PARTITION)
    assert not outcome.problems
    assert "kept the report on /dev/disk/r-1" in outcome.console
    data = partition(ON_PARTITION, 1)
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


def test_what_holds_something_is_never_written_to(happen: Happen) -> None:
    outcome = happen(ON_A_FULL_ONE)
    assert not outcome.problems
    assert "cannot keep the report in /dev/disk/r-2: it holds something else" in outcome.console
    assert partition(ON_A_FULL_ONE, 2).strip(b"\0") == b"somebody has something here\n"
