"""Arrays with external metadata on the simulated kernel: none without its monitor, none left."""

from __future__ import annotations

import pytest

from finalstage import layers
from finalstage.kernel import Target
from finalstage.scan import scan
from finalstage.seal import seal
from finalstage.stage import run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.container import Container, Member, Monitor
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine
from tests.sim.stacks import bare_machine

TERM, INACTIVE = ("kill", "100"), ("write", "/sys/class/block/md126/md/array_state")
STATE = "/sys/devices/virtual/block/md126/md/array_state"


def machine(root: str = "9:126", exe: str = "0:2") -> Machine:
    """ext4 as root on a device, and an array in a container, whose monitor lies on `exe`."""
    made = bare_machine()
    for device in (
        Disk("vda", "8:0"),
        Disk("vdb", "8:1"),
        Disk("vdc", "8:2"),
        Container("md127", "9:127", ("8:0", "8:1")),
        Member("md126", "9:126", ("8:0", "8:1"), container="9:127"),
    ):
        made.devices[device.device] = device
    made.mounts.append(Mount(10, 1, "/oldroot", root))
    made.processes[100] = Monitor(100, holds=(exe,), exe=exe, files=(STATE,), container="9:127")
    return made


def shut_down(machine: Machine) -> SimKernel:
    """Run the stage on a machine to its end."""
    kernel = SimKernel(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


@pytest.mark.parametrize(
    ("made", "order"),
    [
        (machine(), [("umount", "/oldroot"), INACTIVE, ("stop_array", "9:127")]),
        (machine("8:2", "8:2"), [INACTIVE, ("stop_array", "9:127")]),
        (machine(exe="9:126"), [("remount", "/oldroot"), TERM, ("umount", "/oldroot")]),
    ],
    ids=["below root", "beside root, monitor on root", "below root, monitor on root"],
)
def test_all_is_closed_and_noted(made: Machine, order: list[tuple[str, str]]) -> None:
    kernel = shut_down(made)
    assert [call for call in dict.fromkeys(kernel.done) if call in order] == order
    assert {device.name for device in made.devices.values()} == {"vda", "vdb", "vdc"}
    assert 100 not in made.processes
    assert kernel.lost == []
    assert kernel.violations == []
    assert "remaining 0" in "".join(kernel.said)


def test_what_lies_on_an_array_beside_its_monitor_goes_first() -> None:
    made = machine(exe="9:126")
    made.devices["9:125"] = Member("md125", "9:125", ("8:0", "8:1"), container="9:127")
    made.mounts.append(Mount(11, 10, "/oldroot/home", "9:125"))
    kernel = shut_down(made)
    assert kernel.done.index(("umount", "/oldroot/home")) < kernel.done.index(TERM)
    assert kernel.violations == []
    assert "remaining 0" in "".join(kernel.said)


def test_a_monitor_of_what_stays_in_use_stays() -> None:
    made = machine(exe="9:126")
    made.mounts[-1].busy = made.mounts[-1].written = True
    kernel = shut_down(made)
    assert TERM not in kernel.done
    assert "remains raid1 md126" in "".join(kernel.said)


def test_a_write_that_waits_for_a_monitor_that_is_gone_goes_on() -> None:
    made = machine()
    del made.processes[100]
    array = made.the(Member, "9:126")
    array.kept, array.stuck = False, True
    kernel = shut_down(made)
    said = "".join(kernel.said)
    assert "not all of raid1 md126 could be written" in said
    assert kernel.lost == []
    assert "remaining 0" in said


def test_a_key_above_an_array_that_has_come_to_wait_for_its_monitor_is_wiped() -> None:
    """The last scan did not see it wait: what seals may be the first to write."""
    made = machine("253:0")
    del made.processes[100]
    array = made.the(Member, "9:126")
    array.kept, array.state = False, "clean"
    crypt = Dm("dm-0", "253:0", ("9:126",), targets=(Target(0, 8, "crypt"),), keyed=True)
    made.devices["253:0"] = crypt
    kernel = SimKernel(made)
    stack = scan(kernel)
    array.stuck = True
    (sealed,) = seal(kernel, stack, set(), kernel.now() + 20, kernel.said.append)
    assert sealed.error == ""
    assert not crypt.has_key()
    assert kernel.said == ["raid1 md126 does not answer: it goes on without its monitor"]


def test_who_only_is_called_so_is_no_monitor() -> None:
    made = machine()
    made.processes[101] = Monitor(101, holds=("9:126",), container="other")
    kernel = shut_down(made)
    assert 101 not in made.processes
    assert "remaining 0" in "".join(kernel.said)


def test_a_container_with_arrays_is_not_stopped() -> None:
    kernel = SimKernel(machine())
    container = scan(kernel).by_id["block:9:127"]
    with pytest.raises(OSError, match="busy"):
        layers.close(kernel, container)
    assert ("stop_array", "9:127") not in kernel.done


def test_an_array_goes_before_the_mount_of_its_bitmap() -> None:
    made = bare_machine()
    for device in (
        Disk("vda", "8:0"),
        Disk("vdb", "8:1"),
        Md("md0", "9:0", ("8:1",), bitmap="/oldroot/var/md0.bitmap"),
    ):
        made.devices[device.device] = device
    made.mounts.append(Mount(10, 1, "/oldroot", "8:0"))
    kernel = shut_down(made)
    assert kernel.done.index(("stop_array", "9:0")) < kernel.done.index(("umount", "/oldroot"))
    assert "remaining 0" in "".join(kernel.said)
