"""Ceph's block devices: flushed and removed, by force only where their cluster is silent."""

from __future__ import annotations

import pytest

from finalstage.stage import run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.mount import Frozen, Mount
from tests.sim.kinds.rbd import Rbd
from tests.sim.machine import Machine
from tests.sim.stacks import bare_machine

FILES = {True: "/sys/bus/rbd/remove_single_major", False: "/sys/bus/rbd/remove"}


def mounted(rbd: Rbd) -> Machine:
    """A machine with ext4 on it."""
    machine = bare_machine()
    machine.devices[rbd.device] = rbd
    machine.mounts.append(Mount(10, 1, "/oldroot", rbd.device))
    return machine


def shut_down(machine: Machine) -> tuple[SimKernel, str]:
    """Run the stage on a machine to its end; return also what it said."""
    kernel = SimKernel(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel, "".join(kernel.said)


@pytest.mark.parametrize("single_major", [True, False])
def test_one_is_flushed_and_then_removed(single_major: bool) -> None:
    machine = mounted(Rbd("rbd7", "251:0", single_major=single_major))
    kernel, said = shut_down(machine)
    removal = kernel.done.index(("write", FILES[single_major]))
    assert kernel.done.index(("flush", "251:0")) < removal
    assert machine.devices == {}
    assert kernel.lost == []
    assert "closed rbd rbd7" in said
    assert "remaining 0" in said


def test_one_that_is_held_stays() -> None:
    machine = mounted(Rbd("rbd7", "251:0"))
    machine.mounts.pop()
    machine.others.append(Frozen("251:0"))
    kernel, said = shut_down(machine)
    assert kernel.violations == []
    assert "remains rbd rbd7: busy" in said


def test_one_whose_cluster_is_silent_is_given_up() -> None:
    kernel, said = shut_down(mounted(Rbd("rbd7", "251:0", dead=True)))
    assert "rbd rbd7 does not answer: it was removed" in said
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 90
