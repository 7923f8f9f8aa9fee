"""A loop device whose file lies on a file system above itself: broken, and nothing is lost."""

from __future__ import annotations

from finalstage.kernel import Target
from finalstage.stage import run
from tests.sim.kernel import HANG, SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.mount import Mount
from tests.sim.lacking import LACKS, Lack
from tests.sim.machine import Machine
from tests.sim.stacks import bare_machine


def circle() -> Machine:
    """ext4 on a volume, of which a part lies in a file on that ext4; and another file system."""
    machine = bare_machine()
    machine.devices = {
        "8:0": Disk("vda", "8:0"),
        "253:0": Dm(
            "dm-0", "253:0", ("8:0", "7:0"), title="vol", targets=(Target(0, 8, "linear"),)
        ),
        "7:0": Loop("loop0", "7:0", backing="/oldroot/round/file", lies_on="253:0"),
        "8:16": Disk("vdb", "8:16"),
    }
    machine.mounts += [
        Mount(10, 1, "/oldroot", "8:16"),
        Mount(11, 10, "/oldroot/round", "253:0"),
        Mount(12, 1, "/oldroot-other", "8:16"),
    ]
    return machine


def shut_down(
    machine: Machine, faults: dict[object, object] | None = None, lacks: tuple[Lack, ...] = ()
) -> SimKernel:
    """Run the stage on a machine to its end."""
    kernel = SimKernel(machine, faults, lacks)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


def test_it_is_broken_once_all_is_written_and_read_only() -> None:
    kernel = shut_down(circle())
    said = "".join(kernel.said)
    assert "breaks the circle ext4 /round on linear vol on loop loop0 on ext4 /round: " in said
    assert "then takes loop loop0 away from linear vol" in said
    # What is written to a circle goes round in the simulation, and so there is always some left.
    assert {lost.key for lost in kernel.lost} <= {"253:0", "7:0"}
    assert not any(mount.dirty for mount in kernel.machine.mounts)
    assert "remaining 0" in said
    order = [
        kernel.done.index(each)
        for each in (
            ("umount", "/oldroot-other"),
            ("syncfs", "/oldroot/round"),
            ("write", "/proc/sysrq-trigger"),
            ("dm_resume", "253:0"),
            ("detach_loop", "7:0"),
            ("umount", "/oldroot/round"),
        )
    ]
    assert order == sorted(order)
    # What is read-only already may still have its superblock to write: syncfs(2) waits for that.
    turned = kernel.done[order[2] :]
    assert turned.index(("syncfs", "/oldroot/round")) < turned.index(("dm_resume", "253:0"))


def test_one_that_hangs_costs_little_time_and_is_named() -> None:
    kernel = shut_down(circle(), {("syncfs", "/oldroot/round"): HANG, "dm_resume": HANG})
    said = "".join(kernel.said)
    assert "cannot write it out, the circle of ext4 /round: no answer in 5 s" in said
    assert "cannot take loop loop0 away from linear vol: no answer in 3 s" in said
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 90


def test_one_without_a_device_mapper_stays_and_is_named() -> None:
    machine = circle()
    machine.devices["7:0"].below = ("7:1",)
    machine.mounts.pop(-2)
    machine.devices = {
        "7:0": Loop("loop0", "7:0", backing="/oldroot/round/file", lies_on="7:0"),
        "8:16": machine.devices["8:16"],
    }
    machine.mounts.append(Mount(13, 10, "/oldroot/round", "7:0"))
    said = "".join(shut_down(machine).said)
    assert "cannot break the circle ext4 /round on loop loop0 on ext4 /round: " in said
    assert "remains ext4 /round" in said


def test_one_that_does_not_turn_read_only_costs_little_time_and_is_named() -> None:
    machine = circle()
    machine.settings["/proc/sysrq-trigger"] = ""  # takes orders, and does nothing
    kernel = shut_down(machine)
    said = "".join(kernel.said)
    assert "cannot make it read-only, the circle of ext4 /round: " in said
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 20


def test_one_is_broken_all_the_same_on_a_kernel_that_cannot_make_it_read_only() -> None:
    (without_sysrq,) = [lack for lack in LACKS if lack.name == "sysrq"]
    kernel = shut_down(circle(), lacks=(without_sysrq,))
    said = "".join(kernel.said)
    assert "cannot make it read-only, the circle of ext4 /round: not there" in said
    assert "remaining 0" in said
    assert not any(mount.dirty for mount in kernel.machine.mounts)
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 20
