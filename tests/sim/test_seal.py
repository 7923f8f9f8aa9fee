"""Sealing by itself: what it does with the time that it has."""

from __future__ import annotations

import errno
import os

from finalstage.kernel import Target
from finalstage.scan import scan
from finalstage.seal import Sealed, seal
from finalstage.stage import OLD_ROOT, OWN_MOUNTS
from tests.sim.kernel import SimKernel
from tests.sim.kinds.dm import Dm
from tests.sim.machine import Machine
from tests.sim.stacks import disk, main_stack

CRYPT = "253:0"


def sealed(kernel: SimKernel, hung: set[str], seconds: float) -> list[Sealed]:
    """What became of each keyed device, within some seconds."""
    stack = scan(kernel, OWN_MOUNTS, OLD_ROOT)
    return seal(kernel, stack, hung, kernel.now() + seconds, kernel.said.append)


def on_what_hangs() -> Machine:
    """The main stack, and beside it authenticated encryption on a device that is suspended."""
    machine = main_stack()
    machine.devices |= {
        "8:0": disk("sda", "8:0"),
        "253:5": Dm("dm-5", "253:5", ("8:0",), targets=(Target(0, 8, "linear"),), suspended=True),
        "253:6": Dm("dm-6", "253:6", ("253:5",), targets=(Target(0, 8, "integrity"),), keyed=True),
        "253:7": Dm("dm-7", "253:7", ("253:6",), targets=(Target(0, 8, "crypt"),), keyed=True),
    }
    return machine


def test_what_is_suspended_is_wiped_though_the_time_is_over() -> None:
    machine = main_stack()
    machine.the(Dm, CRYPT).suspended = True
    assert not any(each.error for each in sealed(SimKernel(machine), set(), 0))
    assert not machine.the(Dm, CRYPT).has_key()


def test_a_stack_that_hangs_is_waited_for_once() -> None:
    """And then freed, in little more than the time that one suspend is given."""
    machine = on_what_hangs()
    kernel = SimKernel(machine)
    hung = {"block:253:6", "block:253:7"}
    assert not any(each.error for each in sealed(kernel, hung, 5))
    assert not any(device.has_key() for device in machine.devices.values())


def test_what_refuses_to_be_suspended_is_named_and_not_waited_for() -> None:
    invalid = OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    kernel = SimKernel(main_stack(), {"dm_suspend": invalid})
    (found,) = sealed(kernel, set(), 60)
    assert found.error == "it cannot be suspended: invalid argument"
    assert kernel.now() < 5


def test_the_key_of_an_inactive_table_that_stays_goes_with_the_device() -> None:
    """Also where errors must not flow: there is no other way to wipe that key."""
    machine = main_stack()
    machine.devices |= {
        "8:0": disk("sda", "8:0"),
        "253:5": Dm("dm-5", "253:5", ("8:0",), targets=(Target(0, 8, "linear"),)),
    }
    device = machine.the(Dm, "253:5")
    device.inactive_table = True
    kernel = SimKernel(machine, {"dm_clear": OSError(errno.EINVAL, os.strerror(errno.EINVAL))})
    stack = scan(kernel, OWN_MOUNTS, OLD_ROOT)
    found = seal(kernel, stack, set(), 60, kernel.said.append, let_errors_flow=False)
    assert [each.error for each in found if each.layer.device == "253:5"] == [""]
    assert not device.has_key()


def test_what_had_a_key_in_an_inactive_table_alone_goes_on() -> None:
    """It has none any more when that is dropped, and what stands on it is not to be failed."""
    machine = main_stack()
    machine.devices |= {
        "8:0": disk("sda", "8:0"),
        "253:5": Dm("dm-5", "253:5", ("8:0",), targets=(Target(0, 8, "linear"),)),
        "253:6": Dm("dm-6", "253:6", ("253:5",), targets=(Target(0, 8, "linear"),)),
    }
    machine.the(Dm, "253:5").inactive_table = True
    assert not any(each.error for each in sealed(SimKernel(machine), set(), 5))
    for device in ("253:5", "253:6"):
        there = machine.the(Dm, device)
        assert not there.inactive_table and not there.suspended
        assert [target.type for target in there.targets] == ["linear"]
