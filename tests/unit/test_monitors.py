"""Which arrays somebody has to keep, and who does."""

from __future__ import annotations

import pytest

from finalstage.monitors import container_of, monitored, watches
from tests.sim.kernel import SimKernel
from tests.sim.kinds.container import Container, Member, Monitor
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.md import Md
from tests.sim.machine import Machine
from tests.sim.stacks import bare_machine


@pytest.mark.parametrize(
    ("version", "container"),
    [
        ("external:/md127/0", "md127"),
        ("external:-md127/1", "md127"),
        ("external:imsm", ""),
        ("1.2", ""),
        ("none", ""),
        ("", ""),
    ],
)
def test_the_container_of_an_array(version: str, container: str) -> None:
    assert container_of(version) == container


def machine() -> Machine:
    """Two arrays, one of them in a container."""
    made = bare_machine()
    for device in (
        Disk("vda", "8:0"),
        Disk("vdb", "8:1"),
        Md("md0", "9:0", ("8:1",)),
        Container("md127", "9:127", ("8:0",)),
        Member("md126", "9:126", ("8:0",), container="9:127"),
    ):
        made.devices[device.device] = device
    return made


def test_only_members_of_containers_have_monitors() -> None:
    kernel = SimKernel(machine())
    assert monitored(kernel) == ("md126",)
    assert monitored(kernel, "md127") == ("md126",)
    assert monitored(kernel, "md1") == ()


def test_a_monitor_is_known_by_the_state_that_it_has_open() -> None:
    made = machine()
    block = "/sys/devices/virtual/block"
    for pid, file in {
        100: f"{block}/md126/md/array_state",
        101: f"{block}/md126/md/sync_action",
        102: f"{block}/md1260/md/array_state",
    }.items():
        made.processes[pid] = Monitor(pid, files=("/dev/null", file), container="9:127")
    kernel = SimKernel(made)
    assert [pid for pid in made.processes if watches(kernel, pid, ("md126",))] == [100]
    assert not watches(kernel, 100, ())
    assert not watches(kernel, 4711, ("md126",))
