"""What `finalstage close` selects, refuses and asks; and the process that can be left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from finalstage.cli import apart, main
from finalstage.cli.close import running, selection, verb
from finalstage.cli.close.running import Need, needs
from finalstage.cli.close.selection import of_all, of_targets, refusals
from finalstage.cli.errors import DONE, FAILED, INTERRUPTED, NOT_UNDERSTOOD
from finalstage.layers.dm import Dm
from finalstage.layers.mount import Mount
from finalstage.layers.swap import Swap
from finalstage.stack import Layer, Stack
from tests.sim.kernel import SimKernel
from tests.sim.test_close_verb import machine, run

VG = "LVM-" + 32 * "g"


def dm(minor: int, name: str, *below: str, uuid: str = "", **more: Any) -> Dm:
    """A mapped device."""
    device = f"253:{minor}"
    return Dm(f"block:{device}", "dm", "linear", name, below, device=device, uuid=uuid, **more)


def mount(id: int, target: str, *below: str, type: str = "ext4", **more: Any) -> Mount:
    """A mount."""
    return Mount(f"mount:{id}", "mount", type, target, below, target=target, **more)


DISK = Layer("block:8:0", "disk", "disk", "sda", device="8:0", closes=False, is_disk=True)
NET = Layer("block:43:0", "nbd", "nbd", "nbd0", device="43:0", is_disk=True)
ROOT = mount(1, "/", DISK.id, device="8:0")
IMAGE = dm(9, "vg-image", NET.id, uuid=VG + 32 * "i" + "-rimage")
VOLUME = dm(1, "vg-raid", IMAGE.id, uuid=VG + 32 * "v")
DATA = mount(2, "/data", ROOT.id, VOLUME.id, device="253:1", places=(ROOT.id,))
VAR = mount(3, "/var", ROOT.id, VOLUME.id, device="253:1", places=(ROOT.id,))
SHM = mount(4, "/dev/shm", "swap:/dev/x", type="tmpfs", device="0:40", leans_on=("swap:/dev/x",))
SWAP = Swap("swap:/dev/x", "swap", "swap", "/dev/x", below=(VOLUME.id,), path="/dev/x")
NOTHING: dict[str, Need] = {}


def titles(layers: Any) -> list[str]:
    return [layer.name for layer in layers]


def test_parts_of_a_volume_go_with_it_and_a_disk_stays() -> None:
    chosen = of_targets(Stack((DISK, NET, ROOT, IMAGE, VOLUME, DATA)), [VOLUME], False, NOTHING)
    assert titles(chosen.closing) == ["vg-image", "vg-raid", "/data"]
    assert titles(chosen.flushed) == ["nbd0"]


def test_what_another_volume_stands_on_too_is_not_only_a_part() -> None:
    other = dm(2, "vg-other", IMAGE.id, uuid=VG + 32 * "o")
    chosen = of_targets(Stack((NET, IMAGE, VOLUME, other)), [VOLUME], False, NOTHING)
    assert titles(chosen.closing) == ["vg-raid"]
    assert [(layer.name, why) for layer, why in chosen.kept] == [
        ("vg-image", "it is used by linear vg-other")
    ]


def test_below_goes_down_to_the_disk_but_not_to_what_it_is_mounted_on() -> None:
    chosen = of_targets(Stack((DISK, NET, ROOT, IMAGE, VOLUME, DATA)), [DATA], True, NOTHING)
    assert titles(chosen.closing) == ["nbd0", "vg-image", "vg-raid", "/data"]


def test_all_leaves_what_is_needed_and_the_disks_behind_a_network() -> None:
    stack = Stack((DISK, NET, ROOT, IMAGE, VOLUME, DATA))
    chosen = of_all(stack, False, needs(stack, "/usr/bin/finalstage", "/"))
    assert titles(chosen.closing) == ["vg-image", "vg-raid", "/data"]
    assert {layer.name: why for layer, why in chosen.kept} == {
        "/": "the root file system",
        "nbd0": "it is a disk; name it, or say --below",
    }
    chosen = of_all(stack, True, needs(stack, "/usr/bin/finalstage", "/"))
    assert "nbd0" in titles(chosen.closing)


def test_all_leaves_what_is_no_storage_but_on_what_goes() -> None:
    proc = mount(6, "/proc", ROOT.id, type="proc", device="0:20", places=(ROOT.id,))
    beside = mount(7, "/dev/shm", ROOT.id, type="tmpfs", device="0:41", places=(ROOT.id,))
    above = mount(8, "/data/tmp", DATA.id, type="tmpfs", device="0:42", places=(DATA.id,))
    stack = Stack((DISK, NET, ROOT, IMAGE, VOLUME, DATA, proc, beside, above))
    chosen = of_all(stack, False, needs(stack, "/usr/bin/finalstage", "/"))
    assert titles(chosen.closing) == ["vg-image", "vg-raid", "/data", "/data/tmp"]
    assert titles(layer for layer, _ in chosen.kept) == ["/", "nbd0"]


def test_what_is_in_memory_is_not_unmounted_for_a_swap_area() -> None:
    chosen = of_targets(Stack((NET, VOLUME, SWAP, SHM)), [SWAP], False, NOTHING)
    assert titles(chosen.closing) == ["/dev/x"]


def test_an_overlay_goes_with_the_mount_that_it_is_made_of_not_with_any_free_disk() -> None:
    free = dm(7, "vg-free")
    leans = (DATA.id, free.id)
    overlay = mount(9, "/merged", *leans, type="overlay", leans_on=leans)
    stack = Stack((DISK, NET, ROOT, IMAGE, VOLUME, DATA, free, overlay))
    assert "/merged" in titles(of_targets(stack, [VOLUME], False, NOTHING).closing)
    assert titles(of_targets(stack, [free], False, NOTHING).closing) == ["vg-free"]


@pytest.mark.parametrize(
    ("program", "folder", "why"),
    [
        ("/data/finalstage", "/", "where this program lies; copy it"),
        ("/finalstage", "/data/a b", "where this command works; `cd /` first"),
        ("/finalstage", "/database", ""),
    ],
)
def test_neither_the_program_nor_its_directory_is_unmounted(
    program: str, folder: str, why: str
) -> None:
    stack = Stack((DISK, NET, ROOT, IMAGE, VOLUME, DATA))
    needed = needs(stack, program, folder)
    found = refusals(SimKernel(machine()), of_targets(stack, [VOLUME], False, needed), needed)
    assert bool(why) == bool(found)
    assert why in "".join(found)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (VAR, "part of the running system; --running-system closes it"),
        (ROOT, "the root file system; finalstage closes it when the machine goes down"),
        (Layer("nfsd", "nfsd", "NFS", "server", (DATA.id,)), "serves other machines; end it first"),
        (Layer("zpool:p", "zfs", "zpool", "p"), "ZFS's own; zpool export"),
        (Layer("block:147:0", "drbd", "drbd", "drbd0", device="147:0"), "drbdadm down"),
        (dm(5, "slow", suspended=True), "it is suspended; `dmsetup resume slow`"),
        (mount(8, "/circle", "mount:8"), "stands on itself"),
    ],
)
def test_what_must_not_be_closed_is_refused_with_what_to_do(layer: Layer, why: str) -> None:
    stack = Stack((DISK, NET, ROOT, IMAGE, VOLUME, DATA, VAR, layer))
    stack = Stack(tuple({each.id: each for each in stack.layers}.values()))
    needed = needs(stack, "/finalstage", "/")
    chosen = of_targets(stack, [layer], False, needed)
    assert any(why in line for line in refusals(SimKernel(machine()), chosen, needed))
    assert layer.id not in of_all(stack, False, needed).ids or "suspended" in why


def test_without_memory_for_what_is_in_a_swap_area_nothing_is_closed() -> None:
    found = machine()
    found.swaps[0].used = found.available * 2
    answer = run(SimKernel(found), "crypt")
    assert answer.status == FAILED
    assert "cannot close swap /dev/dm-2: no memory for 2048 MiB that are in it" in str(answer)
    assert len(found.mounts) == 7


def test_what_is_only_in_memory_is_named_before() -> None:
    stack = Stack((mount(5, "/m", type="tmpfs", device="0:40"),))
    lost = selection.losses(of_targets(stack, stack.layers, False, NOTHING))
    assert lost == ["what is in tmpfs /m is only in memory, and is lost"]
    twice = Stack((*stack.layers, mount(6, "/other", type="tmpfs", device="0:40")))
    assert selection.losses(of_targets(twice, stack.layers, False, NOTHING)) == []


def test_a_process_in_it_is_named_and_nothing_closed() -> None:
    found = machine()
    found.processes[77] = type(found.processes[50])(77, "editor", holds=("7:0",))
    kernel = SimKernel(found)
    answer = run(kernel, "crypt")
    assert answer.status == FAILED
    assert "cannot close ext4 /srv/below: held by editor[77] (open file)" in str(answer)
    assert not [name for name, _ in kernel.done if name in ("umount", "dm_remove", "swapoff")]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], NOT_UNDERSTOOD, "name each TARGET, or say --all, not both"),
        (["--all", "crypt"], NOT_UNDERSTOOD, "name each TARGET, or say --all, not both"),
        (["--all", "--timeout=0"], NOT_UNDERSTOOD, "'0' is no time span from 1s to 24h"),
        (["--all", "--timeout=soon"], NOT_UNDERSTOOD, "'soon' is no time span"),
        (["--nothing"], NOT_UNDERSTOOD, "not understood: --nothing"),
        (["./no such\nthing"], NOT_UNDERSTOOD, "'./no such\\nthing': no such target"),
        (["crypt", "crypt"], NOT_UNDERSTOOD, "crypt is named twice"),
        (["crypt", "dm-0"], NOT_UNDERSTOOD, "crypt and dm-0 are both crypt crypt"),
        ([""], NOT_UNDERSTOOD, "an empty word is no target"),
        (["/etc/passwd"], NOT_UNDERSTOOD, "/etc/passwd: no such target"),
        (["crypt"], FAILED, "cannot ask whether to close them: this is no terminal; say --yes"),
    ],
)
def test_wrong_input_gets_one_line_and_nothing_is_closed(
    words: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    kernel = SimKernel(machine())
    monkeypatch.setattr(verb, "LinuxKernel", lambda: kernel)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(apart, "call", lambda function: function())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    try:
        found = main(["close", *words])
    except SystemExit as end:
        found = int(str(end.code))
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert (found, said in last) == (status, True), last
    assert not [name for name, _ in kernel.done if name in ("umount", "dm_remove", "flush")]


def test_who_is_not_root_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(apart, "call", lambda function: function())
    assert main(["close", "--all", "--yes"]) == FAILED
    assert capfd.readouterr().err == (
        "finalstage: cannot close anything: only root may; call it with sudo\n"
    )


@pytest.mark.parametrize(("answer", "status"), [("y", DONE), ("", FAILED), ("no", FAILED)])
def test_it_asks(answer: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(words: str) -> str:
        asked.append(words)
        return answer

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", ask)
    found = machine()
    kernel = SimKernel(found)
    result = run(kernel, "crypt", yes=False)
    assert asked == ["Close these 9 layers? [y/N] "]
    assert result.status == status
    assert ("253:0" in found.devices) == (status != DONE)


def test_what_changes_while_it_asks_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = machine()

    def answer(_words: str) -> str:
        del found.mounts[-1]
        return "y"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    result = run(SimKernel(found), "crypt", yes=False)
    assert result.status == FAILED
    assert "it is not the same any more; call it again" in str(result)
    assert "253:0" in found.devices


APART = """
import os, signal, sys, time
from finalstage.cli import apart
apart.LOOK_SECONDS = 0.0
def work():
    {}
sys.exit(apart.call(work))
"""


def apart_of(body: str) -> subprocess.Popen[str]:
    """Start a program that does something in a process of its own."""
    return subprocess.Popen(
        (sys.executable, "-c", APART.format(body)), stderr=subprocess.PIPE, text=True
    )


def test_the_status_of_what_works_apart_is_passed_on() -> None:
    program = apart_of("return 7")
    assert program.communicate()[1] == ""
    assert program.returncode == 7


def test_who_is_killed_is_said_to_be() -> None:
    program = apart_of("os.kill(os.getpid(), signal.SIGKILL)")
    assert "killed in the middle of it" in program.communicate()[1]
    assert program.returncode == FAILED


def test_who_does_not_stop_is_left_behind_when_told_twice() -> None:
    body = """
    signal.signal(signal.SIGTERM, lambda *_: print("told", file=sys.stderr, flush=True))
    print(os.getpid(), file=sys.stderr, flush=True)
    while True:
        signal.pause()"""
    program = apart_of(body)
    assert program.stderr
    left = int(program.stderr.readline())
    for _ in range(2):
        program.send_signal(signal.SIGTERM)
        assert program.stderr.readline() == "told\n"
    assert "interrupted; what hangs was left behind" in program.stderr.readline()
    assert program.wait() == INTERRUPTED
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("number", apart.STOPS)
def test_who_is_told_to_stop_is_interrupted_once(number: signal.Signals) -> None:
    """Though it is told twice at once, as by a terminal and by who passes it on."""
    program = apart_of(f"""
    apart.LOOK_SECONDS = 60.0
    try:
        os.kill(os.getppid(), {int(number)})
        os.kill(os.getpid(), {int(number)})
        signal.pause()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr, flush=True)
        return 130""")
    assert program.communicate()[1] == "stopped\n"
    assert program.returncode == INTERRUPTED


def test_an_uncaught_error_is_a_failure() -> None:
    program = apart_of("raise RuntimeError('odd')")
    assert "RuntimeError: odd" in program.communicate()[1]
    assert program.returncode == FAILED


def test_the_running_system_is_found_where_it_is_mounted() -> None:
    upper = mount(7, "/usr", ROOT.id)
    found = running.needs(Stack((ROOT, mount(6, "/usr", ROOT.id), upper)), "/x", "/")
    assert set(found) == {ROOT.id, upper.id}
