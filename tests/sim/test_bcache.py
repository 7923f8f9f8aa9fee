"""bcache on the simulated kernel: stopped, never detached, whatever was told to stop before."""

from __future__ import annotations

from finalstage.stage import run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.bcache import Bcache, CacheSet, Waiting
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine
from tests.sim.stacks import bare_machine

STOP_DEVICE = ("write", "/sys/class/block/bcache0/bcache/stop")
STOP_SET = ("write", "/sys/fs/bcache/1234/stop")


def machine() -> Machine:
    """ext4 on bcache as root, a volume in the same set, and a backing device that waits."""
    made = bare_machine()
    for device in (
        Disk("vda", "8:0"),
        Disk("vdb", "8:1"),
        Disk("vdc", "8:2"),
        Bcache("bcache0", "251:0", ("8:0", "8:1"), set="bcache:1234"),
        Bcache("bcache1", "251:128", ("8:1",), set="bcache:1234"),
    ):
        made.devices[device.device] = device
    made.others = [CacheSet("1234", "8:1"), Waiting("8:2")]
    made.mounts.append(Mount(10, 1, "/oldroot", "251:0"))
    return made


def shut_down(machine: Machine) -> SimKernel:
    """Run the stage on a machine to its end."""
    kernel = SimKernel(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


def test_all_is_stopped_from_the_top() -> None:
    kernel = shut_down(machine())
    wanted = [("umount", "/oldroot"), ("flush", "251:0"), STOP_DEVICE, STOP_SET]
    assert [each for each in kernel.done if each in wanted] == wanted
    assert kernel.done.index(("flush", "251:128")) < kernel.done.index(STOP_SET)
    assert {device.name for device in kernel.machine.devices.values()} == {"vda", "vdb", "vdc"}
    assert kernel.machine.others == []
    assert kernel.lost == []
    assert kernel.violations == []


def test_what_was_stopped_while_in_use_goes_with_its_last_user() -> None:
    stopped = machine()
    stopped.the(Bcache, "251:0").closing = True
    (found, _) = stopped.others
    assert isinstance(found, CacheSet)
    found.stopping = True
    kernel = shut_down(stopped)
    assert kernel.machine.others == []
    assert "remaining 0" in "".join(kernel.said)
    assert kernel.lost == []


def test_what_somebody_holds_stays_and_is_not_waited_for() -> None:
    held = machine()
    held.mounts[-1].busy = True
    kernel = shut_down(held)
    assert STOP_DEVICE not in kernel.done
    assert STOP_SET not in kernel.done
    assert "remains bcache bcache0: held" in "".join(kernel.said)
    assert kernel.down_at < 5
