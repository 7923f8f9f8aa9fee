"""What `finalstage check` says of the layers of a machine."""

from __future__ import annotations

import pytest

from finalstage.cli.check import callers
from finalstage.cli.check import layers as check_layers
from finalstage.cli.check.readiness import OK, PROBLEM, UNKNOWN, WARNING, Finding
from finalstage.kernel import Kernel, Target
from finalstage.layers.dm import Dm
from finalstage.layers.mount import Mount
from finalstage.stack import Layer, Stack
from tests.unit import recorded
from tests.unit.files_kernel import machine

DISK = Layer("block:8:0", "disk", "disk", "sda", device="8:0", closes=False, is_disk=True)
ROOT = Mount("mount:30", "mount", "ext4", "/", below=(DISK.id,), device="8:0", target="/")
DRBD = Layer("block:147:0", "drbd", "drbd", "drbd0", below=(DISK.id,), device="147:0")
POOL = Layer("zpool:tank", "zfs", "zpool", "tank", holds_unseen=True)
STRANGE = DISK.but(id="block:250:0", name="ublkb0", device="250:0")
DATA = Mount("mount:31", "mount", "xfs", "/data", below=(STRANGE.id,), target="/data")
NTFS = Mount("mount:32", "mount", "fuseblk", "/win", below=(DISK.id,), target="/win")
LOOP = Layer("block:7:0", "loop", "loop", "loop0", below=("mount:33",), device="7:0")
SELF = Mount("mount:33", "mount", "ext4", "/img", below=(LOOP.id,), target="/img")
VIRTUAL = {"/sys/class/block/ublkb0": "../../devices/virtual/block/ublkb0"}


def crypt(target: str) -> Dm:
    """An encrypted device below that target."""
    return Dm("block:253:0", "dm", target, "secret", below=(DISK.id,), device="253:0",
              targets=(Target(0, 8, target),))  # fmt: skip


def look(*layers: Layer, **more: object) -> list[Finding]:
    """What is found on a machine with these layers."""
    found = list(check_layers.look(machine(layers=layers, **more)))  # type: ignore[arg-type]
    assert all(each.remedy for each in found if each.verdict != OK)
    return found


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    """Those that are not well: names and verdicts."""
    return [(each.name, each.verdict) for each in found if each.verdict != OK]


def test_all_is_well() -> None:
    found = look(DISK, ROOT, crypt("crypt"))
    assert wrong(found) == []
    assert [each.found for each in found] == [
        "all 2 are of kinds that it closes: dm, mount",
        "nothing has to remain mounted read-only",
        "1 encrypted devices, whose keys can be wiped",
    ]


SERVED = {"/sys/module/nvmet/refcnt": "1\n"}
SWAPPED = "Filename Type Size Used Priority\n/dev/sda2 partition 9000 8000 -2\n"


@pytest.mark.parametrize(
    ("layers", "more", "name", "words"),
    [
        ((DISK, DRBD), {}, "layers", "drbd drbd0 will stay"),
        ((POOL,), {}, "layers", "zpool tank will stay"),
        ((STRANGE, DATA), {"links": VIRTUAL}, "layers", "the driver of ublkb0"),
        ((DISK, NTFS), {}, "layers", "fuseblk /win is written by a process"),
        ((LOOP, SELF), {}, "layers", "in no order: loop loop0 on ext4 /img on loop loop0"),
        ((DISK,), {"files": SERVED}, "layers", "nvmet serves devices"),
        ((DISK, crypt("integrity")), {}, "keys", "no message wipes the key of integrity secret"),
        (
            (DISK,),
            {"files": {"/proc/swaps": SWAPPED, "/proc/meminfo": "MemTotal: 7000 kB\n"}},
            "swap",
            "7 MiB are in swap",
        ),
        ((DISK,), {"problems": ("cannot read dm-0: I/O error",)}, "layers", "cannot read dm-0"),
    ],
)
def test_what_cannot_be_closed_is_a_warning(
    layers: tuple[Layer, ...], more: dict[str, object], name: str, words: str
) -> None:
    found = look(*layers, **more)
    assert wrong(found) == [(name, WARNING)]
    assert words in next(each.found for each in found if each.verdict == WARNING)


@pytest.mark.parametrize(
    ("layers", "more"),
    [
        ((STRANGE, DATA), {}),  # it is a disk
        ((STRANGE,), {"links": VIRTUAL}),  # nobody uses it
        ((DISK, NTFS.but(writable=False)), {}),
        ((DISK,), {"files": {"/sys/module/nvmet/refcnt": "0\n"}}),
        ((DISK, crypt("integrity")), {"key_left": "poweroff"}),
        ((DISK,), {"files": {"/proc/swaps": SWAPPED, "/proc/meminfo": "MemTotal: 9000 kB\n"}}),
        ((DISK,), {"files": {"/proc/swaps": SWAPPED}}),
    ],
)
def test_what_is_like_it_is_none(layers: tuple[Layer, ...], more: dict[str, object]) -> None:
    assert wrong(look(*layers, **more)) == []


def test_what_root_sees_is_unknown_to_others() -> None:
    problems = ("cannot read dm-0: permission denied",)
    found = look(DISK, problems=problems, as_root=False)
    assert wrong(found) == [("layers", UNKNOWN)]


def test_a_machine_whose_devices_nobody_can_see_is_not_ready() -> None:
    found = look(problems=("cannot list the block devices",), blind=True)
    assert wrong(found) == [("layers", PROBLEM)]


def test_what_remains_where_init_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "is_child_of", lambda init: True)
    found = look(DISK, crypt("crypt"), ROOT.but(below=("block:253:0",)), init="runit")
    assert wrong(found) == [("read-only", WARNING)]
    (finding,) = (each for each in found if each.name == "read-only")
    assert "runit keeps PID 1" in finding.found
    assert "crypt secret; ext4 /" in finding.found
    assert [each.name for each in look(DISK, init="")] == ["layers"]


WITH_WARNINGS = {"sums": ["keys"], "targets": ["keys"]}
"""Recorded machines with something that is not as well as it could be."""


@pytest.mark.parametrize("name", recorded.names())
def test_recorded_machines(name: str) -> None:
    before, _ = recorded.load(name)
    kernel: Kernel = recorded.RecordedKernel(before)  # type: ignore[assignment]
    stack: Stack = recorded.look(before)
    empty = machine()
    of = type(empty)(kernel, empty.setup, stack, True, "systemd")
    found = wrong(list(check_layers.look(of)))
    assert [name for name, _ in found] == WITH_WARNINGS.get(name, [])
