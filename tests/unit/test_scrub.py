"""Overwriting memory, and asking the firmware to: on the simulated kernel."""

from __future__ import annotations

from typing import Any

import pytest

from finalstage import efi, mor, scrub
from tests.sim.kernel import HANG, SimKernel
from tests.sim.machine import Machine, Process

PANIC = "/proc/sys/vm/panic_on_oom"
LOG = b"6,80,0,-;mem auto-init: stack:all(zero), heap alloc:on, heap free:%s\n"
VARIABLE = f"{efi.VARIABLES}/{mor.NAME}"
STAGE, DAEMON = SimKernel.pid, 99


def here(**fields: Any) -> Machine:
    """Return a machine on which nothing runs but the stage and a storage daemon."""
    daemon = Process(DAEMON, "mdmon", argv0="@mdmon")
    stage = Process(STAGE, "stage", oom_score_adj=-998)
    return Machine(processes={STAGE: stage, DAEMON: daemon}, **fields)


@pytest.mark.parametrize(
    ("mode", "encrypted", "scrubbed"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("always", False, True),
        ("never", True, False),
    ],
)
def test_when_it_is_done(mode: str, encrypted: bool, scrubbed: bool) -> None:
    machine = here()
    lines = scrub.scrub(SimKernel(machine), 90, mode, encrypted)
    assert machine.scrubbed is scrubbed
    assert bool(lines) is scrubbed


def test_encryption_that_was_closed_before_is_known() -> None:
    machine = here()
    machine.settings["/sys/module/dm_crypt/initstate"] = "live"
    scrub.scrub(SimKernel(machine), 90, "auto", False)
    assert machine.scrubbed


def test_it_is_said_how_much_and_settings_are_put_back() -> None:
    machine = here()
    (line,) = scrub.scrub(SimKernel(machine), 90, "always", True)
    assert line.words.startswith("overwrote all free memory, at last 400 MiB in ")
    assert not line.bad
    assert machine.settings[PANIC] == "1"
    assert machine.processes[STAGE].oom_score_adj == -998


def test_who_offers_himself_can_still_be_killed() -> None:
    """Else the kernel would panic when he asks for memory."""
    machine = here()
    machine.processes[DAEMON].oom_score_adj = 1000
    kernel = SimKernel(machine)
    (line,) = scrub.scrub(kernel, 90, "always", True)
    assert not line.bad
    assert ("write", f"/proc/{DAEMON}/oom_score_adj") not in kernel.done
    assert ("write", f"/proc/{STAGE}/oom_score_adj") in kernel.done


def test_memory_is_not_exhausted_where_the_stage_could_be_killed() -> None:
    machine = here()
    score = f"/proc/{STAGE}/oom_score_adj"
    (line,) = scrub.scrub(
        SimKernel(machine, {("write", score): PermissionError(1, "no")}), 90, "always", True
    )
    assert "the stage could be killed" in line.words
    assert not machine.scrubbed


@pytest.mark.parametrize(
    ("command_line", "log", "clears"),
    [
        ("init_on_free=1", b"", True),
        ("init_on_free=0", LOG % b"on", False),
        ("quiet", LOG % b"on", True),
        ("quiet", LOG % b"off", False),
        ("quiet", b"", False),
    ],
)
def test_a_kernel_that_clears_by_itself_is_known(
    command_line: str, log: bytes, clears: bool
) -> None:
    machine = here(command_line=command_line, kernel_log=log)
    kernel = SimKernel(machine)
    (line,) = scrub.scrub(kernel, 90, "auto", True)
    assert ("clears what it frees" in line.words) is clears
    assert machine.scrubbed is not clears
    assert ("write", "/proc/sys/vm/drop_caches") in kernel.done


def test_too_much_memory_is_said() -> None:
    machine = here(scrub_seconds=1000)
    kernel = SimKernel(machine)
    (line,) = scrub.scrub(kernel, 90, "always", True)
    assert line.bad
    assert "there was no time for more: PLAINTEXT MAY REMAIN" in line.words
    assert kernel.now() <= scrub.LONGEST + 1


@pytest.mark.parametrize("fault", [HANG, OSError(2, "x"), MemoryError()], ids=repr)
def test_what_fails_is_said(fault: object) -> None:
    machine = here()
    kernel = SimKernel(machine, {"scrub_memory": fault})
    (line,) = scrub.scrub(kernel, 90, "always", True)
    assert "MEMORY IS NOT OVERWRITTEN" in line.words
    assert machine.settings[PANIC] == "1"
    assert kernel.now() < 90


def test_memory_is_not_exhausted_where_that_is_a_panic() -> None:
    machine = here()
    kernel = SimKernel(machine, {("write", PANIC): PermissionError(1, "no")})
    (line,) = scrub.scrub(kernel, 90, "always", True)
    assert "the kernel would panic" in line.words
    assert not machine.scrubbed


def test_no_time_is_left() -> None:
    (line,) = scrub.scrub(SimKernel(here()), 1, "always", True)
    assert "no time is left" in line.words


def test_the_firmware_is_asked() -> None:
    machine = here(efi={VARIABLE: b"\7\0\0\0\0"}, immutable={VARIABLE})
    (line,) = mor.request(SimKernel(machine), 90)
    assert machine.efi[VARIABLE] == b"\7\0\0\0\1"
    assert not line.bad


@pytest.mark.parametrize("machine", [here(), here(efi={"/x/Other": b""})], ids=["bios", "efi"])
def test_firmware_that_does_not_know_the_request_needs_no_words(machine: Machine) -> None:
    assert mor.request(SimKernel(machine), 90) == []


def test_a_variable_that_cannot_be_written_is_said() -> None:
    machine = here(efi={VARIABLE: b"\7\0\0\0\0"})
    kernel = SimKernel(machine, {("write", VARIABLE): OSError(28, "No space left on device")})
    (line,) = mor.request(kernel, 90)
    assert line.words == "cannot ask the firmware to overwrite memory: no space left on device"
