"""Any stack, any fault: down in time, no key left unsaid, nothing lost that could be written.

Always the same examples, 300 a test; with FINALSTAGE_EXAMPLES=20000 as many, and new ones.
"""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finalstage.kernel import Target
from finalstage.stage import run
from tests.sim.kernel import HANG, SimKernel
from tests.sim.machine import Device, Machine, Mount, Process, Swap, main_stack

BUDGET = 90
DISKS = ("vda", "sda", "nvme0n1", "nbd0", "vdb", "sdb")
WAITING = ("umount", "flush", "dm_remove", "stop_array", "swapoff", "sync", "remount", "dm_suspend")
FAULTS = (
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError(errno.EBUSY, os.strerror(errno.EBUSY)),
    MemoryError(),
    RuntimeError("a fault on purpose"),
)


@dataclass
class Builder:
    """Draws a machine from the disks up."""

    draw: Callable[[st.SearchStrategy[int]], int]
    machine: Machine
    free: list[str]
    minor: int = 0

    def number(self, most: int) -> int:
        """Draw a number from 0 to `most`."""
        return self.draw(st.integers(0, most))

    def take(self) -> str:
        """Draw a device that nothing stands on yet."""
        return self.free.pop(self.number(len(self.free) - 1))

    def add(self, kind: str, below: tuple[str, ...]) -> None:
        """Put a device on others."""
        self.minor += 1
        number = {"dm": 253, "crypt": 253, "md": 9, "partition": 259}[kind]
        device = Device(
            name={"md": f"md{self.minor}", "partition": f"part{self.minor}"}.get(
                kind, f"dm-{self.minor}"
            ),
            device=f"{number}:{self.minor}",
            kind="dm" if kind == "crypt" else kind,
            below=below,
            title=f"{kind}{self.minor}",
            targets={
                "crypt": (Target(0, 1024, "crypt"), Target(1024, 1024, "crypt")),
                "dm": (Target(0, 2048, "linear"),),
            }.get(kind, ()),
            keyed=kind == "crypt",
        )
        self.machine.devices[device.device] = device
        self.free.append(device.device)


@st.composite
def machines(draw: Callable[[st.SearchStrategy[int]], int]) -> Machine:
    """A machine with up to six disks, some thirty devices and as many mounts on them."""
    machine = main_stack()
    machine.devices, machine.mounts = {}, [m for m in machine.mounts if m.id < 10]
    for index, name in enumerate(DISKS[: draw(st.integers(1, len(DISKS)))]):
        machine.devices[f"8:{index}"] = Device(name, f"8:{index}", "disk")
    builder = Builder(draw, machine, list(machine.devices))
    for _ in range(builder.number(30)):
        kind = ("dm", "crypt", "crypt", "md", "partition")[builder.number(4)]
        below = [builder.take()]
        if kind == "md" and builder.free:
            below.append(builder.take())
        if kind == "partition" and machine.devices[below[0]].kind not in ("disk", "md"):
            kind = "dm"
        builder.add(kind, tuple(below))
    used = {lower for device in machine.devices.values() for lower in device.below}
    for device in [device for device in machine.devices if device not in used]:
        what = builder.number(5)
        if what == 0:
            machine.swaps.append(Swap(f"/oldroot/dev/{device}", device))
        elif what > 1:
            parent = machine.mounts[builder.number(len(machine.mounts) - 1)]
            parent = machine.mounts[0] if parent.id in (2, 3, 4) else parent
            id = 100 + len(machine.mounts)
            machine.mounts.append(
                Mount(id, parent.id, f"{parent.target.rstrip('/')}/m{id}", device)
            )
    return machine


@st.composite
def troubled(draw: Callable[[st.SearchStrategy[int]], int]) -> Machine:
    """Such a machine, with dead disks, suspended devices, busy mounts, and stubborn processes."""
    machine: Machine = draw(machines())  # type: ignore[arg-type, assignment]
    for device in machine.devices.values():
        luck = draw(st.integers(0, 7))
        device.dead = luck == 0 and device.kind == "disk"
        device.suspended = luck == 0 and device.kind == "dm"
        device.inactive_table = luck == 1 and device.kind == "dm"
    for mount in machine.mounts[4:]:
        mount.busy = draw(st.integers(0, 5)) == 0
        mount.written = mount.busy and draw(st.integers(0, 1)) == 0
    for pid in range(100, 100 + draw(st.integers(0, 3))):
        held = tuple(mount.device for mount in machine.mounts[4:] if draw(st.integers(0, 3)) == 0)
        machine.processes[pid] = Process(
            pid, ignores_term=True, immortal=draw(st.integers(0, 3)) == 0, holds=held
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
    return [device.title for device in devices if device.keyed or device.inactive_table]


@thorough
@given(machines())
def test_a_healthy_machine_is_closed_whole(machine: Machine) -> None:
    kernel = shut_down(machine)
    assert {device.kind for device in machine.devices.values()} <= {"disk", "partition"}
    assert [mount.target for mount in machine.mounts] == ["/", "/proc", "/sys", "/dev"]
    assert machine.swaps == []
    assert keys_left(kernel) == []
    assert kernel.lost == []
    assert "remaining 0, keys left 0" in "".join(kernel.said)
    assert kernel.down_at < 10


@thorough
@given(troubled(), faults)
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
@given(troubled())
def test_what_could_be_written_is_written(machine: Machine) -> None:
    troubled = {d.device for d in machine.devices.values() if d.dead or d.suspended}
    healthy = [
        mount
        for mount in machine.mounts[4:]
        if not {device.device for device in machine.reaches(mount.device)} & troubled
    ]
    kernel = shut_down(machine)
    assert [mount.target for mount in healthy if mount.dirty] == []
    assert {mount.target for mount in healthy}.isdisjoint(kernel.lost)


@thorough
@given(troubled(), faults)
def test_the_same_machine_goes_down_the_same_way(
    machine: Machine, faults: dict[str, object]
) -> None:
    twin = copy.deepcopy(machine)
    assert shut_down(machine, faults).said == shut_down(twin, faults).said
