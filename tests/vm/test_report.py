"""The report of a shutdown, on a partition of its own, and in a file on an EFI system partition.
In an EFI variable, and in pstore: test_firmware."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

from finalstage.cli.report.shutdown import read
from finalstage.keep import EMPTY, MOST_ON_DEVICE
from tests.vm import content, ram
from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import Gpt, Vfat
from tests.vm.rows import DIRECT, STUBBORN, Row
from tests.vm.stacks import MAIN_BUSY

SPARE, PLACE = Disk("r", 48), "/dev/disk/r-1"
ESP, FILE, OTHER = "/boot/efi", "/EFI/last report", File("/boot/efi/other", 100_000)
BESIDE = replace(
    MAIN_BUSY,
    name="main, swap and nested mounts, a partition to spare, an ESP",
    hardware=Hardware((*MAIN_BUSY.hardware.disks, SPARE)),
    layers=(
        *MAIN_BUSY.layers,
        Gpt("disk/r", SPARE.size, (4, 40)),
        Vfat("disk/r-2", 40, ESP, FILE),
    ),
)
ON_PARTITION = Row(
    "report on a partition",
    BESIDE,
    f"{DIRECT} --kill-after=1s --report.place={PLACE}",
    before=(STUBBORN,),
)
IN_FILE = Row(
    "report on the ESP",
    BESIDE,
    f"{DIRECT} '--report.place={ESP}{FILE}'",
    before=(f"mkdir {ESP}/EFI; echo older >'{ESP}{FILE}'",),
    files=(OTHER,),
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


def test_it_is_kept_in_a_file_on_the_esp(happen: Happen) -> None:
    """Which was mounted, and is clean, with what else is on it, when the machine is down."""
    outcome = happen(IN_FILE)
    assert not outcome.problems
    assert f"kept the report in {ESP}{FILE}" in outcome.console
    text = outcome.verdict.text
    shown = re.search(r"^shown (\S+)$", text, re.MULTILINE)
    assert shown, text
    found = read(base64.b64decode(shown[1]))
    assert (found.verb, found.remaining, found.keys_left) == ("poweroff", 0, 0)
    assert f"vfat {ESP}" in {step.layer for step in found.steps if not step.error}
    assert "beside: 2" in text  # that, and the other file: nothing is left of writing it
