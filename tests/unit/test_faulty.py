"""Faults on purpose, on the simulated kernel."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from finalstage.kernel import Kernel, faulty
from tests.sim.kernel import SimKernel
from tests.sim.machine import Machine

LOOKING = {
    "console", "dm_info", "dm_status", "drain_console", "encryption_key", "kernel_log", "listdir",
    "log", "now", "read", "read_device", "readlink", "sleep", "start", "stat", "tell_guardian",
    "time_of_day", "wait", "wait_for_rcu",
}  # fmt: skip


def wrapped(fault: str, command_line: str = "", **environment: str) -> tuple[Kernel, SimKernel]:
    files = dict.fromkeys(("/proc/a", "/proc/b", "/proc/c"), "")
    kernel = SimKernel(Machine(command_line=command_line, settings=files))
    variables = {"FINALSTAGE_TEST": "1", "FINALSTAGE_FAULT": fault, **environment}
    return faulty.wrap(kernel, variables), kernel


def test_every_method_is_a_point_or_only_looks() -> None:
    methods = {name for name, thing in vars(Kernel).items() if callable(thing) and name[0] != "_"}
    assert methods - LOOKING == faulty.ACTING


@pytest.mark.parametrize(
    ("command_line", "environment"),
    [
        ("finalstage.fault=kill@1", {}),
        ("", {"FINALSTAGE_FAULT": "kill@1"}),
        ("", {"FINALSTAGE_TEST": "0", "FINALSTAGE_FAULT": "kill@1"}),
        ("finalstage.test", {"FINALSTAGE_TEST": "1"}),
    ],
)
def test_nothing_without_being_asked_twice(command_line: str, environment: dict[str, str]) -> None:
    kernel = SimKernel(Machine(command_line=command_line))
    assert faulty.wrap(kernel, environment) is kernel


def test_the_command_line_asks_too() -> None:
    kernel = SimKernel(Machine(command_line="quiet finalstage.test finalstage.fault=raise@sync"))
    with pytest.raises(RuntimeError):
        faulty.wrap(kernel, {}).sync()


@pytest.mark.parametrize("fault", ["explode@3", "kill@3,twice", "@"])
def test_what_makes_no_sense_is_said_and_ignored(fault: str) -> None:
    kernel, real = wrapped(fault)
    assert kernel is real
    assert "cannot do the fault" in "".join(real.said)


ERRORS = {"memory": MemoryError, "raise": RuntimeError, "fail": OSError}


@pytest.mark.parametrize("action", ERRORS)
@pytest.mark.parametrize("point", ["2", "write:/proc/b", "write:/proc/x+write:/proc/b"])
def test_one_call_fails(action: str, point: str) -> None:
    kernel, real = wrapped(f"{action}@{point}")
    kernel.write("/proc/a", b"")
    with pytest.raises(ERRORS[action]):
        kernel.write("/proc/b", b"")
    kernel.write("/proc/c", b"")
    assert [name for _, name in real.done if _ == "write"] == ["/proc/a", "/proc/c"]


def test_a_method_fails_each_time() -> None:
    kernel, _ = wrapped("fail@sync")
    for _ in range(3):
        with pytest.raises(OSError):
            kernel.sync()


def test_a_phase_fails() -> None:
    kernel, real = wrapped("raise@phase:seal")
    kernel.tell_guardian("phase close")
    kernel.tell_guardian("alive")
    with pytest.raises(RuntimeError):
        kernel.tell_guardian("phase seal")
    assert real.told == ["phase close", "alive", "phase seal"]


def test_once_is_not_in_the_second_attempt() -> None:
    kernel, real = wrapped("kill@1,once", FINALSTAGE_ATTEMPT="2")
    assert kernel is real
    assert wrapped("kill@1,once", FINALSTAGE_ATTEMPT="1")[0] is not real


def test_points_are_shown() -> None:
    kernel, real = wrapped("show")
    kernel.tell_guardian("phase down")
    kernel.sync()
    kernel.write("/proc/a", b"")
    assert [line.partition(": ")[2].strip() for line in real.said] == [
        "point -1 phase:down",
        "point 1 sync:",
        "point 2 write:/proc/a",
    ]


def dies(act: Callable[[], Any]) -> int:
    """Do something in a child; return the status it ended with, as waitpid(2) has it."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            act()
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("action", "status"), [("kill", -signal.SIGKILL), ("segv", -signal.SIGSEGV), ("exit", 3)]
)
def test_dies(action: str, status: int) -> None:
    kernel, _ = wrapped(f"{action}@sync")
    assert dies(kernel.sync) == status
