"""The administrator's own programs: at which moments, in which state of the machine, how often."""

from __future__ import annotations

import errno
import os

import pytest

from finalstage import hooks, moments
from finalstage.stage import run
from tests.sim.kernel import HANG, SimKernel
from tests.sim.kinds.dm import Dm
from tests.sim.machine import Machine, Process
from tests.sim.stacks import main_stack

BUDGET = 80.0
SHARE = 10.0  # of a moment
AS_PID1 = {"FINALSTAGE_PID1": "yes"}


def machine_with(*at: str, lasts: float = 0.1) -> Machine:
    """The main stack with a process and keys, whose tree carries a program for some moments."""
    machine = main_stack()
    machine.processes[100] = Process(100)
    machine.keyrings = {0: ("user some", "logon other")}
    machine.moments = {moment: {"10-some": lasts, "20-other": 0.1} for moment in at}
    return machine


def shut_down(
    machine: Machine, *arguments: str, faults: dict[object, object] | None = None
) -> SimKernel:
    kernel = SimKernel(machine, faults)
    run(kernel, ["reboot", f"--budget={BUDGET:.0f}", *arguments], AS_PID1)
    return kernel


def said(kernel: SimKernel) -> str:
    return "".join(kernel.said)


def test_each_in_its_order_and_once() -> None:
    kernel = shut_down(machine_with("closed", "last", "start"))
    assert [run.moment for run in kernel.moment_runs] == ["start", "closed", "last"]
    assert {run.verb for run in kernel.moment_runs} == {"reboot"}
    for moment in moments.ALL:
        assert f"ran 2 programs of hooks/{moment} in 0.20 s" in said(kernel)
    assert kernel.down == "reboot"


def test_at_start_nobody_has_been_asked_to_end_and_nothing_is_closed() -> None:
    kernel = shut_down(machine_with("start"))
    (there,) = kernel.moment_runs
    untouched = machine_with()
    assert there.mounts == tuple(mount.target for mount in untouched.mounts[4:])
    assert there.devices == tuple(device.name for device in untouched.devices.values())
    assert there.processes == len(untouched.processes)
    assert there.facts == {}
    at = kernel.done.index(("run_moment", "start"))
    acting = {"kill", "umount", "dm_remove", "remount"}
    assert not acting & {operation for operation, _ in kernel.done[:at]}
    assert acting & {operation for operation, _ in kernel.done[at:]}  # the control


def test_when_closed_nothing_is_left_but_the_keyrings() -> None:
    kernel = shut_down(machine_with("closed"))
    (there,) = kernel.moment_runs
    assert there.mounts == ()
    assert there.devices == ("vda", "vdb")
    assert there.keys == 2
    assert there.facts == {"FINALSTAGE_REMAINING": "0", "FINALSTAGE_KEYS_LEFT": "0"}


def test_at_last_the_keyrings_are_gone_and_memory_is_overwritten() -> None:
    kernel = shut_down(machine_with("last"))
    (there,) = kernel.moment_runs
    assert there.keys == 0
    at = kernel.done.index(("run_moment", "last"))
    assert "scrub_memory" in [operation for operation, _ in kernel.done[:at]]
    assert kernel.done[at + 1 :][:3] == [("sync", ""), ("drain_console", ""), ("reboot", "reboot")]


def test_they_are_told_what_remains_and_whether_a_key_does() -> None:
    machine = machine_with("closed", "last")
    refused = OSError(errno.EIO, os.strerror(errno.EIO), "253:0")
    faults: dict[object, object] = dict.fromkeys(
        ("dm_suspend", "dm_message", "dm_load_error"), refused
    )
    machine.processes[101] = Process(101, immortal=True, ignores_term=True, holds=("253:1",))
    kernel = shut_down(machine, faults=faults)
    assert "A KEY MAY REMAIN IN MEMORY" in said(kernel)
    assert machine.the(Dm, "253:0").has_key()
    closed, last = kernel.moment_runs
    assert int(closed.facts["FINALSTAGE_REMAINING"]) > 0
    assert closed.facts["FINALSTAGE_KEYS_LEFT"] == "1"
    assert last.facts == closed.facts


def test_without_any_nothing_is_run() -> None:
    machine = machine_with()
    kernel = shut_down(machine)
    assert "run_moment" not in [operation for operation, _ in kernel.done]
    assert "hooks/" not in said(kernel)


@pytest.mark.parametrize("moment", moments.ALL)
def test_one_that_takes_too_long_has_its_time_and_no_more(moment: str) -> None:
    machine = machine_with(moment, lasts=1000.0)
    kernel = shut_down(machine, "--hooks.timeout=4s")
    (there,) = kernel.moment_runs
    assert there.each == 4.0
    assert there.seconds <= SHARE
    assert f"at hooks/{moment}: 10-some took too long, and is ended" in said(kernel)
    assert f"ran 2 programs of hooks/{moment}" in said(kernel)
    assert "remaining 0, keys left 0" in said(kernel)
    assert kernel.down == "reboot" and 4 < kernel.down_at < 4 + 10


@pytest.mark.parametrize("moment", moments.ALL)
def test_together_they_have_an_eighth_of_the_budget(moment: str) -> None:
    machine = machine_with(moment, lasts=1000.0)
    kernel = shut_down(machine, "--hooks.timeout=50s")
    assert f"at hooks/{moment}: 20-other was not run: no time is left" in said(kernel)
    assert "remaining 0, keys left 0" in said(kernel)
    assert kernel.down_at < SHARE + 10


@pytest.mark.parametrize(
    "fault",
    [HANG, OSError(errno.ENOMEM, "Cannot allocate memory", "/finalstage"), RuntimeError("broken")],
    ids=str,
)
@pytest.mark.parametrize("moment", moments.ALL)
def test_whatever_goes_wrong_is_said_and_stops_nothing(moment: str, fault: object) -> None:
    machine = machine_with(moment)
    kernel = shut_down(machine, faults={("run_moment", moment): fault})
    words = "what runs at hooks/{} goes on" if fault is HANG else "not all was run at hooks/{}:"
    assert words.format(moment) in said(kernel)
    assert {device.name for device in machine.devices.values()} == {"vda", "vdb"}
    assert "remaining 0, keys left 0" in said(kernel)
    assert kernel.down == "reboot" and kernel.down_at < BUDGET


def test_a_second_attempt_runs_no_moment_again() -> None:
    kernel = SimKernel(machine_with("start", "closed", "last"))
    kernel.run_moment("start", "reboot", 9.0, 5.0, {})
    run(kernel, ["reboot"], AS_PID1)
    assert [run.moment for run in kernel.moment_runs] == ["start", "closed", "last"]
    assert "at hooks/start: they have been run before" in said(kernel)


def test_where_no_time_is_left_they_are_not_run_and_it_is_said() -> None:
    kernel = SimKernel(machine_with("last"))
    (line,) = hooks.run_at(kernel, "last", "halt", kernel.now() + 0.9, 5.0, {})
    assert line.words == "nothing was run at hooks/last: no time is left"
    assert line.bad and kernel.moment_runs == []
    (line,) = hooks.run_at(kernel, "last", "halt", kernel.now() + 1.1, 5.0, {})
    assert len(kernel.moment_runs) == 1  # the control


def test_a_folder_that_cannot_be_read_may_hold_some() -> None:
    refused = OSError(errno.EIO, os.strerror(errno.EIO), "hooks")
    kernel = shut_down(
        machine_with("closed"), faults={("listdir", "/etc/finalstage/hooks/closed"): refused}
    )
    assert len(kernel.moment_runs) == 1


@pytest.mark.parametrize(("asked", "is_on"), [("on", True), ("off", False)])
def test_the_firmware_is_only_asked_where_that_is_wanted(asked: str, is_on: bool) -> None:
    machine = machine_with()
    name = "MemoryOverwriteRequestControl-e20939be-32d4-41be-a150-897f85d49829"
    machine.efi = {f"/sys/firmware/efi/efivars/{name}": b"\7\0\0\0\0"}
    machine.efi_mounted = True
    kernel = shut_down(machine, f"--firmware-scrub={asked}")
    assert ("asked the firmware to overwrite memory" in said(kernel)) == is_on
