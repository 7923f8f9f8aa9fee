"""Any stack, any fault: down in time, no key left unsaid, nothing lost that could be written.

Always the same examples, 300 a test; with FINALSTAGE_EXAMPLES=20000 as many, and new ones.
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Mapping

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finalstage.stage import run
from tests.sim.builder import OWN_MOUNTS, Builder
from tests.sim.kernel import HANG, SimKernel
from tests.sim.kinds import KINDS
from tests.sim.machine import Machine, Process
from tests.sim.stacks import bare_machine

BUDGET = 90
WAITING = ("umount", "flush", "dm_remove", "stop_array", "swapoff", "sync", "remount", "dm_suspend")
FAULTS = (
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError(errno.EBUSY, os.strerror(errno.EBUSY)),
    MemoryError(),
    RuntimeError("a fault on purpose"),
)


@st.composite
def machines(draw: st.DrawFn, trouble: bool = False) -> Machine:
    """A machine with up to sixty layers; with `trouble`, dead disks, suspended devices, busy mounts
    and stubborn processes."""
    machine = bare_machine()
    builder = Builder(lambda most: draw(st.integers(0, most)), machine)
    for _ in range(builder.number(60)):
        KINDS[builder.number(len(KINDS) - 1)].draw(builder)
    if trouble:
        for kind in KINDS:
            kind.trouble(builder)
        for pid in range(100, 100 + builder.number(3)):
            held = tuple(m.device for m in machine.mounts[OWN_MOUNTS:] if builder.number(3) == 0)
            machine.processes[pid] = Process(
                pid, ignores_term=True, immortal=builder.number(3) == 0, holds=held
            )
    return machine


faults = st.dictionaries(
    st.sampled_from(WAITING), st.one_of(st.just(HANG), st.sampled_from(FAULTS)), max_size=2
)
EXAMPLES = int(os.environ.get("FINALSTAGE_EXAMPLES", "300"))
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="FINALSTAGE_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def shut_down(machine: Machine, faults: Mapping[str, object] | None = None) -> SimKernel:
    """Run the stage on a machine to its end."""
    kernel = SimKernel(machine, faults)
    run(kernel, ["poweroff", f"--budget={BUDGET}"], {"FINALSTAGE_PID1": "yes"})
    return kernel


def keys_left(kernel: SimKernel) -> list[str]:
    """Return the devices that still hold a key."""
    devices = kernel.machine.devices.values()
    return [device.label for device in devices if device.has_key()]


@thorough
@given(machines())
def test_a_healthy_machine_is_closed_whole(machine: Machine) -> None:
    kernel = shut_down(machine)
    there = {device.kind for device in machine.devices.values() if device.sectors}
    assert there <= {"disk", "partition"}
    assert [mount.target for mount in machine.mounts] == ["/", "/proc", "/sys", "/dev"]
    assert machine.swaps == []
    assert keys_left(kernel) == []
    assert kernel.lost == []
    assert kernel.violations == []
    assert "remaining 0, keys left 0" in "".join(kernel.said)
    assert kernel.down_at < 10


@thorough
@given(machines(trouble=True), faults)
def test_no_key_is_left_unsaid_and_the_machine_goes_down(
    machine: Machine, faults: dict[str, object]
) -> None:
    kernel = shut_down(machine, faults)
    said = "".join(kernel.said)
    assert kernel.down == "poweroff"
    assert kernel.down_at <= BUDGET
    for title in keys_left(kernel):
        assert f"A KEY MAY REMAIN IN MEMORY: crypt {title}" in said or "dm " in said, said


@thorough
@given(machines(trouble=True))
def test_what_could_be_written_is_written(machine: Machine) -> None:
    troubled = {d.device for d in machine.devices.values() if d.waits()}
    healthy = [
        mount
        for mount in machine.mounts[4:]
        if not {device.device for device in machine.reaches(mount.device)} & troubled
    ]
    kernel = shut_down(machine)
    assert [mount.target for mount in healthy if mount.dirty] == []
    assert {mount.target for mount in healthy}.isdisjoint(kernel.lost)


@thorough
@given(machines(trouble=True), faults)
def test_the_same_machine_goes_down_the_same_way(
    machine: Machine, faults: dict[str, object]
) -> None:
    twin = copy.deepcopy(machine)
    assert shut_down(machine, faults).said == shut_down(twin, faults).said
