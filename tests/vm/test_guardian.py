"""Whatever becomes of the stage: the guardian brings the machine down, clean and without a key.

The main stack is handed over with a fault at every call of the stage that acts, by number. What
the numbers are, a probe says: a fault that only shows the points.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from tests.bench.stacks import Chains
from tests.vm import test_faults
from tests.vm.conftest import Happen
from tests.vm.expected import MAY_REMAIN, Expected
from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import NONE, Common, Ext4, Linear, Luks, Raid
from tests.vm.part import in_turn, seldom
from tests.vm.rows import DIRECT, DIRTY, RETURN, STUBBORN, Row, leave
from tests.vm.stacks import MAIN, ONE, TWO, Stack

POINTS = range(1, 24)
"""At least as many as the stage needs calls for the main stack on the direct path."""

DEATHS = ("kill@{},once", "segv@{}", "memory@{}")
FAULTS = [
    death.format(point)
    for point in in_turn(POINTS, of=4)
    for death in in_turn(DEATHS, point // 4 % len(DEATHS), of=len(DEATHS))
]

EARLY = (
    *("prepare", "defuse", "start", "kill", "files", "unblock", "hooks", "close", "lock", "settle"),
)
PHASES = (
    *(*EARLY, "free", "seal", "flush", "closed", "keys", "scrub", "report", "keep", "last"),
    "down",
)
NOT_EXECUTABLE = "chmod 644 /run/initramfs/usr/lib/finalstage/stage"
DAMAGED = "dd if=/dev/zero of=/run/initramfs/usr/lib/finalstage/stage bs=4k count=1 conv=notrunc"
AS_CHILD = "({path} &); exec sleep 999"
MANY = Stack(
    "LUKS behind 600 devices",
    Hardware((Disk("a"), Disk("b", 240))),
    (Luks("last", "disk/a"), Ext4("mapper/last", "/"), Chains("disk/b", 60, 10)),
)
"""The kernel lists devices by their names."""


def with_fault(fault: str, rescue: str = "", path: str = DIRECT) -> str:
    """The way down, with a fault of the stage, and with steps that the guardian leaves out."""
    variables = f"FINALSTAGE_TEST=1 FINALSTAGE_FAULT='{fault}' FINALSTAGE_RESCUE='{rescue}'"
    return f"export {variables}; {path}"


def faulty(fault: str) -> Row:
    return Row(f"main, {fault}", MAIN, with_fault(fault))


def test_the_points_are_all_of_them(happen: Happen) -> None:
    outcome = happen(Row("guardian: points", MAIN, with_fault("show")))
    assert not outcome.problems
    said = outcome.console
    points = dict(re.findall(r"finalstage: point ([1-9]\d*) (\S+)", said))
    assert set(points) == {str(number) for number in range(1, len(points) + 1)}
    # What is busy at first is tried again, and has as many points then.
    assert len(POINTS) - 4 <= len(set(points.values())) <= len(POINTS)
    assert tuple(re.findall(r"finalstage: point -1 phase:(\w+)", said)) == PHASES


# A stage that is killed once is started again, and closes the rest. One that dies each time is
# replaced by the guardian's own, cruder way. A failing call is the stage's own affair.
@pytest.mark.parametrize("fault", in_turn(FAULTS))
def test_dies_at_a_call(happen: Happen, fault: str) -> None:
    outcome = happen(faulty(fault))
    assert not outcome.problems


@pytest.mark.parametrize("phase", in_turn(PHASES, of=8))
def test_dies_in_a_phase(happen: Happen, phase: str) -> None:
    outcome = happen(faulty(f"kill@phase:{phase}"))
    assert not outcome.problems
    assert f"signal 9 in phase {phase}" in outcome.console
    assert ("starting it once more" in outcome.console) == (phase in EARLY)


@pytest.mark.parametrize(
    "row",
    [
        Row("main, killed, reboot", MAIN, with_fault("kill@umount:/oldroot"), "reboot"),
        *seldom(
            Row("main, killed, halt", MAIN, with_fault("kill@umount:/oldroot"), "halt"),
            Row("main, killed, return", MAIN, with_fault("kill@dm_remove", path=RETURN)),
            Row("main, exits", MAIN, with_fault("exit@flush")),
        ),
        Row("main, no fork", MAIN, with_fault("", "nofork")),
        *seldom(Row("600 devices, stage not executable", MANY, before=(NOT_EXECUTABLE,))),
        Row("main, stage not executable", MAIN, before=(NOT_EXECUTABLE,)),
        *seldom(
            Row("main, stage damaged", MAIN, before=(DAMAGED,)),
            Row("main, stage not executable, return", MAIN, RETURN, before=(NOT_EXECUTABLE,)),
        ),
        Row("main, killed, stubborn", MAIN, with_fault("kill@kill"), before=(STUBBORN,)),
        *seldom(Row("main, child", MAIN, AS_CHILD.format(path=DIRECT[5:]))),
        Row(
            "main, child, killed",
            MAIN,
            AS_CHILD.format(path=with_fault("kill@phase:close", path=DIRECT[5:])),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_goes_down_without_the_stage(happen: Happen, row: Row) -> None:
    assert not happen(row).problems


# -- what hangs ----------------------------------------------------------------------------------

BUDGET, REBOOT = 16, 10
"""Seconds; reboot(2) has at least five, even if all is used up, and so has what follows it."""

CALLS = ("lock_memory", "umount:/oldroot", "umount", "flush", "dm_remove", "stop_array", "sync")
HANGS = [*CALLS, "reboot", "write", *(f"phase:{name}" for name in in_turn(PHASES, 1, of=4))]


@pytest.mark.parametrize("point", in_turn(HANGS, of=3))
def test_hangs(happen: Happen, point: str) -> None:
    path = with_fault(f"hang@{point}") + f" --budget={BUDGET}"
    outcome = happen(Row(f"main, hang@{point}", MAIN, path, hangs=True))
    assert outcome.end.kind == "poweroff"
    assert outcome.end.seconds < BUDGET + REBOOT
    assert not outcome.copies.of_keys and MAY_REMAIN not in outcome.console
    if point != "umount:/oldroot":  # which the stage must take for a file system that hangs
        assert not outcome.problems


# -- below and above the key ---------------------------------------------------------------------


ON_HANG = Stack(
    "LUKS that hangs",
    Hardware(ONE),
    (Linear("hang", "disk/a"), Luks("crypt", "mapper/hang"), Ext4("mapper/crypt", "/")),
)
BELOW_MD = Stack(
    "RAID1 on two LUKS",
    Hardware(TWO),
    (
        Luks("left", "disk/a"),
        Luks("right", "disk/b"),
        Raid("md0", ("mapper/left", "mapper/right")),
        Ext4("md0", "/"),
    ),
)
HANG = "/run/trouble suspend hang"
WRITER = "(dd if=/dev/zero of=/data/more bs=1M count=8 conv=fsync & sleep 0.3)"
PANICS = "mount -o remount,errors=panic /"
# Half a mirror that hangs keeps the other half from being written to, until too late.
HUNG = [
    row
    for row in test_faults.ROWS
    if row.name.startswith("hung: ")
    and not any(word in row.name for word in ("one half", "processor", "AES", "LUKS1"))
]


@pytest.mark.parametrize("verb", ["poweroff", *seldom("reboot")])
def test_rescue_below_an_array(happen: Happen, verb: str) -> None:
    # The array notes that it is clean when it has been idle for a moment, and the rescue does not
    # wait for that: its members are sealed, and take no superblock any more.
    row = Row(
        f"guardian: md above, {verb}",
        BELOW_MD,
        verb=verb,
        before=(NOT_EXECUTABLE,),
        expected=Expected(unclean=("md0",)),
    )
    assert not happen(row).problems


@pytest.mark.parametrize(
    "row",
    [
        replace(row, name=f"guardian: {row.name}", before=(NOT_EXECUTABLE, *row.before))
        for row in in_turn(HUNG, of=4)
    ],
    ids=lambda row: row.slug,
)
def test_rescue_of_stacks_that_hang(happen: Happen, row: Row) -> None:
    assert not happen(row).problems


@pytest.mark.parametrize("trouble", ["comet", "bomb", "unshare"])
def test_rescue_in_trouble(happen: Happen, trouble: str) -> None:
    row = Row(
        f"guardian: {trouble}",
        MAIN,
        # Not at once: there is one more order then, which takes a process.
        before=(NOT_EXECUTABLE, f"(sleep 0.3; exec /run/trouble {trouble}) &"),
        tools=("trouble",),
    )
    assert not happen(row).problems


@pytest.mark.parametrize(
    ("name", "before"),
    [("hung", (HANG,)), ("hung, a writer, errors=panic", (PANICS, HANG, WRITER))],
)
def test_rescue_above_what_hangs(happen: Happen, name: str, before: tuple[str, ...]) -> None:
    """What was not written when the disk began to hang is lost, but nothing else, and no key."""
    lost = tuple(file.path for file in DIRTY)
    row = Row(
        f"guardian: {name}",
        ON_HANG,
        before=(NOT_EXECUTABLE, *before),
        hangs=True,
        tools=("trouble",),
        expected=Expected(unclean=("ext4:/",), lost=lost),
    )
    assert not happen(row).problems


# -- memory --------------------------------------------------------------------------------------


HOLD = """
mount -t tmpfs -o size=100% tmpfs /mnt
touch /mnt/file
(exec -a @holder /run/holder /mnt/file) &
sleep 0.2
echo -1000 >/proc/$!/oom_score_adj"""
"""By a storage daemon, which is spared by us, and which the kernel must not kill either."""


@pytest.mark.parametrize("mebibytes", [*seldom(12), 8])
def test_little_memory_and_none_to_be_had(happen: Happen, mebibytes: int) -> None:
    name = f"main, {mebibytes} MiB left for ever"
    row = Row(name, MAIN, before=(HOLD, leave(mebibytes)), tools=("holder", "fill"))
    assert not happen(row).problems


@pytest.mark.parametrize("mebibytes", [16, *seldom(32, 8)])
def test_little_memory(happen: Happen, mebibytes: int) -> None:
    row = Row(f"main, {mebibytes} MiB left", MAIN, before=(leave(mebibytes),), tools=("fill",))
    assert not happen(row).problems


# -- the watchdog --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Softdog(Common):
    """Not a layer: the kernel's own watchdog, which restarts the machine."""

    name: ClassVar[str] = "softdog"
    title: ClassVar[str] = "softdog"
    modules: ClassVar[tuple[str, ...]] = ("softdog",)
    clean: ClassVar[Mapping[str, str]] = NONE
    below: ClassVar[tuple[str, ...]] = ()

    def build(self) -> str:
        return ""

    def judge(self) -> str:
        return ""


WATCHED = replace(MAIN, name="main, softdog", layers=(*MAIN.layers, Softdog()))
SHORT = "export WATCHDOG_USEC=4000000; "


@pytest.mark.parametrize(
    "row",
    [
        Row(
            "watchdog: fed while a call hangs",
            WATCHED,
            f"{SHORT}{with_fault('hang@stop_array')} --budget=40",
            hangs=True,
        ),
        Row("watchdog: reboot(2) is left out", WATCHED, ends_by="reboot",
            path=f"{SHORT}{with_fault('kill@phase:down', 'noreboot')}"),
        *seldom(Row("watchdog: the device that was told", WATCHED, ends_by="reboot",
            before=("mv /dev/watchdog0 /dev/dog; rm /dev/watchdog",),
            path=f"export WATCHDOG_DEVICE=/dev/dog; {SHORT}"
            f"{with_fault('kill@phase:down', 'noreboot')}"),
            Row("watchdog: halt", WATCHED, verb="halt")),
        Row("watchdog: a hang of the stage", WATCHED,
            f"{SHORT}{with_fault('hang@phase:close')} --budget=24", hangs=True),
    ],
    ids=lambda row: row.slug,
)  # fmt: skip
def test_watchdog(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems
    assert "did not stop" not in outcome.console


# -- controls: without sealing, each must find the key ---------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        Row("control: not sealed", MAIN, with_fault("kill@phase:close", "noseal")),
        Row(
            "control: not sealed, stage not executable",
            MAIN,
            with_fault("", "noseal"),
            before=(NOT_EXECUTABLE,),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_without_sealing_the_key_is_found(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.end.kind == "poweroff"
    assert outcome.copies.of_keys
    assert MAY_REMAIN in outcome.console
