"""What the kernel would start or hold for programs of the old root."""

from __future__ import annotations

import errno
import os

from finalstage.handlers import CORE_PATTERN
from finalstage.stage import run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.mount import Mount
from tests.sim.stacks import main_stack

PLACE = "/oldroot/proc/sys/fs/binfmt_misc"
STATUS = f"{PLACE}/status"


def machine_with_rules(fstype: str = "binfmt_misc") -> SimKernel:
    machine = main_stack()
    machine.mounts += [
        Mount(20, 10, "/oldroot/proc", "0:31", "proc"),
        Mount(21, 20, PLACE, "0:50", fstype),
    ]
    machine.settings[STATUS] = "enabled"
    return SimKernel(machine)


def test_no_core_dumps_and_no_rules() -> None:
    kernel = machine_with_rules()
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    assert kernel.machine.settings[CORE_PATTERN] == "|/bin/false\n"
    assert kernel.machine.settings[STATUS] == "-1\n"
    first_kill = next(i for i, done in enumerate(kernel.done) if done[0] == "umount")
    assert kernel.done.index(("write", STATUS)) < first_kill


def test_what_would_only_be_mounted_is_left_alone() -> None:
    kernel = machine_with_rules("autofs")
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    assert ("write", STATUS) not in kernel.done


def test_a_refusal_is_said_and_a_kernel_without_core_dumps_is_none() -> None:
    kernel = machine_with_rules()
    kernel.faults = {("write", STATUS): OSError(errno.EPERM, os.strerror(errno.EPERM), STATUS)}
    del kernel.machine.settings[CORE_PATTERN]
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    said = "".join(kernel.said)
    assert "cannot drop the rules of binfmt_misc: operation not permitted" in said
    assert "core dumps" not in said
    assert "remaining 0" in said
