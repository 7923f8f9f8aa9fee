"""`finalstage close` on a simulated kernel: cut off after any call, it can be called again; and on
machines of any shape."""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import re
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from finalstage import drawing
from finalstage.cli.close import verb
from finalstage.cli.close.verb import close
from finalstage.cli.errors import DONE, FAILED, INTERRUPTED, RefusalError
from finalstage.kernel import Call, Target
from finalstage.kernel.faulty import ACTING
from finalstage.scan import scan
from tests.sim.draw import machine_from
from tests.sim.faults import HANG
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine
from tests.sim.paste import as_test
from tests.sim.properties import Excuses, shut_down
from tests.sim.stacks import bare_machine, main_stack

LVM = "LVM-" + 32 * "g"


def machine() -> Machine:
    """Three volumes on LUKS on a mirror: a file system with another mounted on it from a loop
    device, swap, and one that is free. A disk beside it."""
    found = bare_machine()
    for device in (
        Disk("vda", "254:0"),
        Disk("vdb", "254:16"),
        Disk("vdc", "254:32"),
        Md("md0", "9:0", ("254:0", "254:16")),
        Dm("dm-0", "253:0", ("9:0",), title="crypt", targets=(Target(0, 2048, "crypt"),)),
        *(
            Dm(
                f"dm-{minor}",
                f"253:{minor}",
                ("253:0",),
                title=f"vg-{name}",
                uuid=LVM + 32 * name[0],
                targets=(Target(0, 512, "linear"),),
            )
            for minor, name in enumerate(("srv", "swap", "free"), 1)
        ),
        Loop("loop0", "7:0", backing="/srv/image", lies_on="253:1"),
    ):
        found.devices[device.device] = device
    found.mounts += [
        Mount(10, 1, "/srv", "253:1"),
        Mount(11, 10, "/srv/below", "7:0"),
        Mount(12, 10, "/srv/tmp", "0:40", "tmpfs"),
    ]
    found.swaps.append(Swap("/dev/dm-2", "253:2"))
    return found


class Answer:
    """What it said, and its exit status."""

    def __init__(self, lines: list[str], status: int) -> None:
        self.lines = lines
        self.status = status

    def __str__(self) -> str:
        return "\n".join((*self.lines, f"[{self.status}]"))


def run(kernel: Any, *words: str, yes: bool = True) -> Answer:
    """Call it with some words, as its main program does; without being asked, but for `yes`."""
    parser = argparse.ArgumentParser()
    verb.add_to(parser.add_subparsers())
    options = parser.parse_args(["close", *["--yes"] * yes, *words])
    lines: list[str] = []
    try:
        lines += close(kernel, options)
    except RefusalError as error:
        return Answer([*lines, str(error)], error.status)
    except KeyboardInterrupt:
        return Answer(lines, INTERRUPTED)
    return Answer(lines, DONE)


class KilledError(BaseException):
    """The process is gone."""


class Cut:
    """A kernel that does something as soon as so many calls that act have been made."""

    def __init__(self, kernel: SimKernel, after: int) -> None:
        self.kernel = kernel
        self.left = after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.kernel, name)
        if name not in ACTING:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            try:
                return real(*arguments, **options)
            finally:
                self.left -= 1
                if self.left == 0:
                    self.cut()

        return call

    def cut(self) -> None:
        """Do it."""


class Killed(Cut):
    """One whose process is killed then, wherever it is."""

    def start(self, name: str, function: Any) -> Call:
        self.alive()
        call = self.kernel.start(name, function)
        self.alive()
        return call

    def alive(self) -> None:
        """Go no further if it is dead."""
        if self.left <= 0:
            raise KilledError

    def cut(self) -> None:
        raise KilledError


class Interrupted(Cut):
    """One in which somebody presses Ctrl-C then."""

    def cut(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


class Pulled(Cut):
    """One in which a disk is pulled out then."""

    def cut(self) -> None:
        disk = self.kernel.machine.devices["254:0"]
        disk.gone = True
        disk.take_away(self.kernel)


def steps(*words: str) -> list[tuple[str, str]]:
    """Return the calls that act, of a run in which nothing is in the way."""
    kernel = SimKernel(machine())
    assert run(kernel, *words).status == DONE
    return [(name, thing) for name, thing in kernel.done if name in ACTING]


STEPS = steps("--all")


def all_is_closed_and_written(machine: Machine, *kernels: SimKernel) -> list[str]:
    """Return what is not so, by the kernels that have worked on the machine."""
    found = [why for kernel in kernels for _, why in kernel.lost]
    found += [what for kernel in kernels for what in kernel.violations]
    found += [f"{mount.target} stays" for mount in machine.mounts[4:]]
    found += [f"{swap.path} stays" for swap in machine.swaps]
    found += [f"{device.name} stays" for device in machine.devices.values() if device.closes()]
    disks = (device for device in machine.devices.values() if device.name in ("vda", "vdb"))
    return found + [f"{disk.name} was not written out" for disk in disks if disk.dirty]


def closed_by_calling_again(kernel: SimKernel) -> None:
    """Call it on what another one has left, and look that all is as if nothing had happened."""
    again = SimKernel(kernel.machine)
    answer = run(again, "--all")
    assert answer.status == DONE, answer
    assert all_is_closed_and_written(kernel.machine, kernel, again) == []


def test_a_run_makes_enough_calls_to_be_cut_off_at() -> None:
    assert len(STEPS) >= 20


@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_killed_after_any_call_it_can_be_called_again(number: int) -> None:
    kernel = SimKernel(machine())
    with pytest.raises(KilledError):
        run(Killed(kernel, number), "--all")
    closed_by_calling_again(kernel)


@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_interrupted_after_any_call_it_begins_nothing_new(number: int) -> None:
    kernel = SimKernel(machine())
    answer = run(Interrupted(kernel, number), "--all")
    left = [line for line in answer.lines if line.startswith("not closed: ")]
    assert answer.status == (INTERRUPTED if left else DONE), answer
    assert left or number >= STEPS.index(("flush", "9:0"))
    for title in left[0].removeprefix("not closed: ").split(", ") if left else ():
        assert any(layer.title == title for layer in scan(SimKernel(kernel.machine)).layers)
    closed_by_calling_again(kernel)


@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_with_a_disk_pulled_after_any_call_the_other_half_has_it_all(number: int) -> None:
    kernel = SimKernel(machine())
    answer = run(Pulled(kernel, number), "--all")
    assert kernel.now() < 90, answer
    again = SimKernel(kernel.machine)
    answer = run(again, "--all")
    del kernel.machine.devices["254:0"]
    assert answer.status == DONE, answer
    assert all_is_closed_and_written(kernel.machine, kernel, again) == []


@pytest.mark.parametrize("step", STEPS, ids=" ".join)
def test_whatever_hangs_is_left_behind_and_named(step: tuple[str, str]) -> None:
    kernel = SimKernel(machine(), {step: HANG})
    answer = run(kernel, "--all", "--timeout=20s")
    assert answer.status == FAILED
    assert re.search(r": no answer in [5-7] s, and was left behind", str(answer))
    assert kernel.now() <= 21 and not kernel.stuck
    closed_by_calling_again(kernel)


@pytest.mark.parametrize("step", STEPS, ids=" ".join)
def test_whatever_fails_is_named_and_the_rest_is_consistent(step: tuple[str, str]) -> None:
    if step[0] == "thaw":
        return  # fails always: nothing is frozen
    kernel = SimKernel(machine(), {step: OSError(errno.EIO, os.strerror(errno.EIO))})
    answer = run(kernel, "--all")
    assert answer.status == FAILED and "I/O error" in str(answer)
    closed_by_calling_again(kernel)


HARMLESS = (
    "/reset",
    "/delete",
    "/delete_controller",
    "/stop",
    "/remove_single_major",
    "/md/array_state",
)
"""How paths end that a person's `close` may write to."""

GENTLE = ("flush", "umount", "thaw", "swapoff", "dm_remove", "stop_array", "detach_loop", "syncfs")
"""What else it may do."""

EXAMPLES = int(os.environ.get("FINALSTAGE_EXAMPLES", "300"))


def not_gentle(kernel: SimKernel) -> list[str]:
    """Return what was done that only somebody may do who takes the machine down."""
    return [
        f"{name} {thing}"
        for name, thing in kernel.done
        if name in ACTING and name not in (*GENTLE, "clear_nbd")
        if not (name == "write" and thing.endswith(HARMLESS) and thing.startswith("/sys/"))
    ]


def complaints(machine: Machine) -> list[str]:
    """Close all of a machine, and return what was not as it must be."""
    excuses = Excuses(pickle.loads(pickle.dumps(machine)))
    before = {layer.id: layer.title for layer in scan(SimKernel(machine)).closing}
    kernel = SimKernel(machine)
    answer = run(kernel, "--all", "--below")
    found = not_gentle(kernel) + kernel.violations
    found += [why for key, why in kernel.lost if not excuses.data(key)]
    after = {layer.id for layer in scan(SimKernel(machine)).layers}
    chosen = [line[6:] for line in answer.lines if re.match(r" *[0-9]+  ", line)]
    gone = [title for id, title in before.items() if id not in after]
    found += [f"{title} went unasked" for title in gone if title not in chosen]
    if answer.status == DONE:
        found += [f"{title} is still there" for title in chosen if title not in gone]
    if kernel.now() > 90 + 30 or kernel.stuck:
        found.append(f"it took {kernel.now():.0f} s, {kernel.stuck}")
    return found and [*found, str(answer)]


def test_the_stage_is_not_gentle() -> None:
    assert not_gentle(shut_down(main_stack()))


def test_what_cannot_be_written_stays_unless_it_may_be_lost() -> None:
    found = machine()
    for name in ("254:0", "254:16"):
        found.devices[name].failing = True
    answer = run(SimKernel(found), "crypt")
    assert answer.status == FAILED
    assert "linear vg-free stays: I/O error; --lossy gives up what cannot be written" in str(answer)
    assert "253:0" in found.devices
    answer = run(SimKernel(found), "crypt", "--lossy")
    assert answer.status == FAILED
    assert "crypt crypt is closed, but not all was written: I/O error" in str(answer)
    assert "253:0" not in found.devices


def test_what_left_the_tree_and_was_not_written_out_is_not_closed() -> None:
    """A mount is seen no more as soon as umount2 has begun, though it hangs."""
    found = machine()
    found.devices["254:0"].dead = True
    kernel = SimKernel(found)
    answer = run(kernel, "vg/srv", "--timeout=20s")
    assert answer.status == FAILED
    assert "/srv/below" not in [mount.target for mount in found.mounts]
    assert "ext4 /srv/below stays: no answer in" in str(answer)
    closed = [line for line in answer.lines if line.startswith("closed: ")]
    assert closed == ["closed: tmpfs /srv/tmp"]
    assert kernel.now() < 40


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Any machine, from the disks up."""
    return machine_from(lambda most: draw(st.integers(0, most)))


def test_any_machine() -> None:
    @seed(int.from_bytes(os.urandom(8)) if "FINALSTAGE_EXAMPLES" in os.environ else 7)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(machines())
    def check(machine: Machine) -> None:
        picture = drawing.draw(scan(SimKernel(machine)))
        saved = pickle.dumps(machine)
        if found := complaints(machine):
            pytest.fail("\n".join((*found, picture, as_test(pickle.loads(saved), {}))), False)

    check()
