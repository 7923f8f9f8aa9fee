"""What systemd-shutdown would have run: when, how often, for how long, and what becomes of root."""

from __future__ import annotations

import errno
import os

import pytest

from finalstage.kernel import Target
from finalstage.stage import CLOSE_LEAVES, HOOKS_LEAVES, run
from tests.sim.kernel import HANG, SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine
from tests.sim.stacks import main_stack

BUDGET = 80.0
STANDING_IN = {"FINALSTAGE_PID1": "yes", "FINALSTAGE_STANDS_IN": "yes"}


def busy_machine() -> Machine:
    """The main stack with more on its encrypted device, and a disk of its own beside it."""
    machine = main_stack()
    for device in (
        Dm("dm-2", "253:2", ("253:0",), title="vg-data", targets=(Target(0, 1024, "linear"),)),
        Dm("dm-3", "253:3", ("253:0",), title="vg-swap", targets=(Target(0, 1024, "linear"),)),
        Disk("vdc", "254:32"),
        Dm("dm-4", "253:4", ("254:32",), title="far", targets=(Target(0, 1024, "linear"),)),
    ):
        machine.devices[device.device] = device
    machine.mounts += [
        Mount(20, 10, "/oldroot/data", "253:2"),
        Mount(21, 20, "/oldroot/data/far", "253:4"),
    ]
    machine.swaps = [Swap("/oldroot/dev/dm-3", "253:3")]
    machine.hooks = ("fwupd.shutdown", "mdadm.shutdown")
    return machine


def shut_down(
    machine: Machine,
    faults: dict[object, object] | None = None,
    environment: dict[str, str] = STANDING_IN,
    verb: str = "poweroff",
) -> SimKernel:
    kernel = SimKernel(machine, faults)
    run(kernel, [verb, f"--budget={BUDGET:.0f}"], environment)
    return kernel


def said(kernel: SimKernel) -> str:
    return "".join(kernel.said)


def names(machine: Machine) -> set[str]:
    return {device.name for device in machine.devices.values()}


def test_run_when_all_but_root_is_closed_and_root_is_read_only() -> None:
    kernel = shut_down(busy_machine())
    (there,) = kernel.hook_runs
    assert there.mounts == ("/oldroot", "/oldroot/run")
    assert there.root_readonly
    assert there.swaps == ()
    assert set(there.devices) == {"vda", "vdb", "vdc", "md0", "dm-0", "dm-1"}
    assert there.verb == "poweroff"


def test_root_is_closed_afterwards() -> None:
    kernel = shut_down(busy_machine())
    done = [done for done in kernel.done if done[0] in ("umount", "run_hooks", "dm_remove")]
    at = done.index(("run_hooks", "poweroff"))
    assert done[at + 1 :] == [
        ("umount", "/oldroot/run"),
        ("umount", "/oldroot"),
        ("dm_remove", "253:1"),
        ("dm_remove", "253:0"),
    ]
    assert names(kernel.machine) == {"vda", "vdb", "vdc"}
    assert not any(device.dirty for device in kernel.machine.devices.values())
    assert (kernel.lost, kernel.violations) == ([], [])
    assert "ran 2 programs of system-shutdown in 0.10 s" in said(kernel)
    assert "remaining 0, keys left 0" in said(kernel)


def test_a_usr_of_its_own_stays_too_and_is_read_only() -> None:
    machine = busy_machine()
    machine.devices["253:5"] = Dm(
        "dm-5", "253:5", ("253:0",), title="vg-usr", targets=(Target(0, 1024, "linear"),)
    )
    machine.mounts.append(Mount(22, 10, "/oldroot/usr", "253:5"))
    kernel = shut_down(machine)
    (there,) = kernel.hook_runs
    assert there.mounts == ("/oldroot", "/oldroot/run", "/oldroot/usr")
    assert "dm-5" in there.devices
    at = kernel.done.index(("run_hooks", "poweroff"))
    assert kernel.done.index(("remount", "/oldroot/usr")) < at
    assert names(machine) == {"vda", "vdb", "vdc"}


@pytest.mark.parametrize("verb", ["poweroff", "halt", "reboot"])
def test_they_are_told_the_verb(verb: str) -> None:
    (there,) = shut_down(busy_machine(), verb=verb).hook_runs
    assert there.verb == verb


@pytest.mark.parametrize(
    "environment",
    [
        {"FINALSTAGE_PID1": "yes"},
        {"FINALSTAGE_PID1": "yes", "FINALSTAGE_STANDS_IN": "no"},
        {"FINALSTAGE_PID1": "no"},
    ],
    ids=["not told", "return path", "child"],
)
def test_on_other_paths_they_are_not_run(environment: dict[str, str]) -> None:
    kernel = shut_down(busy_machine(), environment=environment)
    assert kernel.hook_runs == []
    assert "system-shutdown" not in said(kernel)
    assert names(kernel.machine) == {"vda", "vdb", "vdc"}


def test_without_any_nothing_waits_for_root() -> None:
    machine = busy_machine()
    machine.hooks = ()
    kernel = shut_down(machine)
    other = shut_down(busy_machine(), environment={"FINALSTAGE_PID1": "yes"})
    assert "run_hooks" not in [operation for operation, _ in kernel.done]
    calls = ("umount", "dm_remove", "remount", "flush")
    assert [x for x in kernel.done if x[0] in calls] == [x for x in other.done if x[0] in calls]


def test_a_second_attempt_does_not_run_them_again() -> None:
    machine = busy_machine()
    kernel = SimKernel(machine)
    kernel.run_hooks("poweroff", 1.0)
    run(kernel, ["poweroff"], STANDING_IN)
    assert len(kernel.hook_runs) == 1
    assert "at system-shutdown: they have been run before" in said(kernel)
    assert names(machine) == {"vda", "vdb", "vdc"}


def test_what_takes_too_long_is_ended_in_time_and_root_closed_all_the_same() -> None:
    machine = busy_machine()
    machine.hook_seconds = 1000.0
    kernel = shut_down(machine)
    assert kernel.hook_runs[0].seconds < BUDGET * (1 - HOOKS_LEAVES)
    assert "at system-shutdown: fwupd.shutdown took too long, and is ended" in said(kernel)
    assert BUDGET * (1 - HOOKS_LEAVES) - 2 < kernel.down_at < BUDGET * (1 - CLOSE_LEAVES)
    assert names(machine) == {"vda", "vdb", "vdc"}
    assert "remaining 0, keys left 0" in said(kernel)


def test_what_cannot_be_ended_holds_root_which_loses_its_key() -> None:
    machine = busy_machine()
    kernel = shut_down(machine, faults={"run_hooks": HANG})
    assert "what runs at system-shutdown goes on: no answer in" in said(kernel)
    assert "remains ext4 /" in said(kernel)
    assert "253:0" not in machine.devices or not machine.the(Dm, "253:0").has_key()
    assert "keys left 0" in said(kernel)
    assert kernel.down == "poweroff"
    assert kernel.down_at < BUDGET
    assert kernel.lost == []


@pytest.mark.parametrize("problem", [errno.ECHILD, errno.ENOMEM])
def test_where_they_cannot_be_run_that_is_said(problem: int) -> None:
    kernel = shut_down(
        busy_machine(), faults={"run_hooks": OSError(problem, os.strerror(problem), "helper")}
    )
    assert "not all was run at system-shutdown: " + os.strerror(problem).lower() in said(kernel)
    assert names(kernel.machine) == {"vda", "vdb", "vdc"}


def test_where_root_cannot_be_made_read_only_they_are_run_and_it_is_said() -> None:
    machine = busy_machine()
    refused = OSError(errno.EBUSY, os.strerror(errno.EBUSY), "/oldroot")
    kernel = shut_down(machine, faults={("remount", "/oldroot"): refused})
    assert len(kernel.hook_runs) == 1
    assert "ext4 / is not read-only for what runs at system-shutdown: busy" in said(kernel)
    assert names(machine) == {"vda", "vdb", "vdc"}


def test_what_hangs_elsewhere_does_not_keep_them_from_running() -> None:
    machine = busy_machine()
    machine.by_name("vdc").dead = True
    kernel = shut_down(machine)
    (there,) = kernel.hook_runs
    assert there.mounts == ("/oldroot", "/oldroot/run", "/oldroot/data")
    assert there.root_readonly
    assert "253:1" not in machine.devices
    assert kernel.down_at < BUDGET


def test_where_no_time_is_left_they_are_not_run_and_it_is_said() -> None:
    machine = busy_machine()
    machine.by_name("vda").busy = True  # something moves, so that it is waited for
    kernel = shut_down(machine, faults={("umount", "/oldroot/data"): 35.0})
    assert kernel.hook_runs == []
    assert names(machine) == {"vda", "vdb", "vdc"}
    assert "nothing was run at system-shutdown: no time is left" in said(kernel)


def test_a_folder_that_cannot_be_read_may_hold_some() -> None:
    folder = "/oldroot/usr/lib/systemd/system-shutdown"
    kernel = shut_down(busy_machine(), faults={("listdir", folder): HANG})
    assert len(kernel.hook_runs) == 1
