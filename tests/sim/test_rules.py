"""The rules of the simulated kernel: what is refused, what waits, what goes by itself.

Each stands for a passage of the kernel's source that its module names.
"""

from __future__ import annotations

import errno

import pytest

from finalstage.kernel import Target
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Frozen, Mount, Unseen
from tests.sim.kinds.partition import Partition
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine
from tests.sim.stacks import main_stack

CRYPT, ROOT, ARRAY = "253:0", "253:1", "9:0"
HALVES = ("254:0", "254:16")


def refused(code: int, act: object, *arguments: object) -> None:
    """A call is refused with an error."""
    assert callable(act)
    with pytest.raises(OSError) as failure:
        act(*arguments)
    assert failure.value.errno == code


def waits(kernel: SimKernel, act: object, *arguments: object) -> bool:
    """Whether a call does not come back within a minute."""
    assert callable(act)
    call = kernel.start("call", lambda: act(*arguments))
    kernel.wait((call,), 60)
    return not call.done


@pytest.fixture
def machine() -> Machine:
    return main_stack()


@pytest.fixture
def kernel(machine: Machine) -> SimKernel:
    return SimKernel(machine)


def test_nothing_closes_below_its_holder(kernel: SimKernel) -> None:
    refused(errno.EBUSY, kernel.umount, "/oldroot")
    refused(errno.EBUSY, kernel.dm_remove, ROOT)
    refused(errno.EBUSY, kernel.dm_remove, CRYPT)
    refused(errno.EBUSY, kernel.stop_array, ARRAY)
    assert kernel.violations == []


def test_what_holds_a_partition_holds_its_disk(machine: Machine, kernel: SimKernel) -> None:
    machine.mounts = machine.mounts[:4]
    del machine.devices[ROOT], machine.devices[CRYPT]
    machine.devices["259:1"] = Partition("md0p1", "259:1", (ARRAY,), dirty=False)
    machine.swaps.append(Swap("/oldroot/dev/md0p1", "259:1"))
    refused(errno.EBUSY, kernel.stop_array, ARRAY)
    kernel.swapoff("/oldroot/dev/md0p1")
    kernel.stop_array(ARRAY)
    assert set(machine.devices) == set(HALVES)


def test_a_mount_that_another_one_hides_is_not_found(machine: Machine, kernel: SimKernel) -> None:
    machine.mounts += [
        Mount(20, 10, "/oldroot/a/b", "0:40", "tmpfs"),
        Mount(21, 10, "/oldroot/a", "0:41", "tmpfs"),
    ]
    refused(errno.EINVAL, kernel.umount, "/oldroot/a/b")
    kernel.umount("/oldroot/a")
    kernel.umount("/oldroot/a/b")


def test_only_the_last_mount_of_a_file_system_writes_it_out(
    machine: Machine, kernel: SimKernel
) -> None:
    machine.mounts += [Mount(20, 10, "/oldroot/a", ROOT)]
    machine.devices[ROOT].dirty = False
    kernel.umount("/oldroot/a")
    assert not machine.devices[ROOT].dirty
    assert machine.mounts[4].dirty


@pytest.mark.parametrize("holder", [Frozen(ROOT), Unseen(ROOT)])
def test_a_file_system_outlives_its_last_mount(
    machine: Machine, kernel: SimKernel, holder: Frozen | Unseen
) -> None:
    machine.others.append(holder)
    machine.mounts = machine.mounts[:4]
    refused(errno.EBUSY, kernel.dm_remove, ROOT)
    machine.others.clear()
    kernel.flush(ROOT)
    kernel.dm_remove(ROOT)


@pytest.mark.parametrize("kind", ["loop", "dm"])
def test_what_goes_by_itself_goes_at_the_last_close(kind: str) -> None:
    machine = main_stack()
    if kind == "loop":
        machine.devices["7:0"] = Loop(
            "loop0", "7:0", backing="/oldroot/a", lies_on=ROOT, autoclear=True
        )
    else:
        linear = (Target(0, 8, "linear"),)
        machine.devices["7:0"] = Dm("dm-7", "7:0", ("254:0",), targets=linear, deferred=True)
    machine.mounts.append(Mount(20, 10, "/oldroot/b", "7:0"))
    kernel = SimKernel(machine)
    kernel.flush("7:0")
    assert "7:0" in machine.devices
    kernel.umount("/oldroot/b")
    assert "7:0" not in machine.devices
    assert kernel.lost == []


def test_a_loop_device_that_is_held_goes_later_and_says_nothing(
    machine: Machine, kernel: SimKernel
) -> None:
    machine.devices["7:0"] = Loop("loop0", "7:0", backing="/oldroot/a", lies_on=ROOT)
    machine.mounts.append(Mount(20, 10, "/oldroot/b", "7:0"))
    kernel.detach_loop("7:0")
    assert "7:0" in machine.devices
    kernel.umount("/oldroot/b")
    assert "7:0" not in machine.devices


@pytest.mark.parametrize(
    ("level", "members", "spare"),
    [("linear", 2, 0), ("raid0", 2, 0), ("raid1", 2, 1), ("raid1", 3, 2), ("raid5", 3, 1),
     ("raid6", 4, 2), ("raid10", 4, 1)],
)  # fmt: skip
def test_an_array_does_without_as_many_members_as_its_level_allows(
    level: str, members: int, spare: int
) -> None:
    machine = Machine(devices={f"8:{n}": Disk(f"vd{n}", f"8:{n}") for n in range(members)})
    machine.devices["9:0"] = Md("md0", "9:0", tuple(machine.devices), level=level)
    for n in range(members):
        assert machine.fails("9:0") == (n > spare)
        machine.devices[f"8:{n}"].failing = True


def test_the_last_working_member_cannot_be_failed(machine: Machine) -> None:
    for half in HALVES:
        machine.devices[half].dead = True
    kernel = SimKernel(machine)
    kernel.write("/sys/dev/block/9:0/md/dev-vda/state", b"faulty")
    refused(errno.EBUSY, kernel.write, "/sys/dev/block/9:0/md/dev-vdb/state", b"faulty")
    assert machine.fails(ARRAY)


def test_to_fail_a_member_that_answers_is_a_violation(kernel: SimKernel) -> None:
    kernel.write("/sys/dev/block/9:0/md/dev-vda/state", b"faulty")
    assert kernel.violations


@pytest.mark.parametrize("cause", ["suspended below", "dead disk"])
def test_what_is_written_waits_for_what_does_not_answer(
    machine: Machine, kernel: SimKernel, cause: str
) -> None:
    if cause == "dead disk":
        machine.devices["254:0"].dead = True
    else:
        machine.the(Dm, CRYPT).suspended = True
    assert waits(kernel, kernel.flush, ROOT)
    assert waits(kernel, kernel.syncfs, "/oldroot")
    assert waits(kernel, kernel.sync)


def test_a_suspend_waits_for_what_is_in_flight_and_for_nothing_else(
    machine: Machine, kernel: SimKernel
) -> None:
    machine.the(Dm, CRYPT).suspended = True
    machine.mounts[4].dirty = False
    assert not waits(kernel, kernel.dm_suspend, ROOT, False, False)
    kernel.dm_resume(ROOT)
    assert waits(kernel, kernel.flush, ROOT)
    assert waits(kernel, kernel.dm_suspend, ROOT, False, False)


def test_an_error_table_lets_what_waits_go_on_and_loses_what_was_not_written(
    machine: Machine, kernel: SimKernel
) -> None:
    machine.the(Dm, CRYPT).suspended = True
    call = kernel.start("flush", lambda: kernel.flush(ROOT))
    kernel.dm_load_error(CRYPT, 2048)
    kernel.dm_resume(CRYPT)
    kernel.wait((call,), 1)
    assert isinstance(call.error, OSError)
    assert {lost.key for lost in kernel.lost} == {"mount:10", ROOT, CRYPT}


def test_a_key_is_wiped_segment_by_segment_and_while_suspended(
    machine: Machine, kernel: SimKernel
) -> None:
    crypt = machine.the(Dm, CRYPT)
    crypt.targets = (Target(0, 8, "crypt"), Target(8, 8, "crypt"))
    refused(errno.EINVAL, kernel.dm_message, CRYPT, 0, "key wipe")
    kernel.dm_suspend(CRYPT, False, False)
    kernel.dm_message(CRYPT, 0, "key wipe")
    assert crypt.has_key()
    kernel.dm_message(CRYPT, 8, "key wipe")
    assert not crypt.has_key()
    refused(errno.EAGAIN, kernel.dm_resume, CRYPT)


def test_an_inactive_table_has_a_key_until_it_is_cleared_or_replaced(machine: Machine) -> None:
    crypt = machine.the(Dm, CRYPT)
    for end in ("dm_clear", "dm_load_error"):
        crypt.keyed, crypt.inactive_table = False, True
        kernel = SimKernel(machine)
        assert crypt.has_key()
        getattr(kernel, end)(*((CRYPT,) if end == "dm_clear" else (CRYPT, 8)))
        assert not crypt.has_key()


def test_what_is_closed_before_it_is_flushed_is_lost(machine: Machine, kernel: SimKernel) -> None:
    machine.mounts = machine.mounts[:4]
    kernel.dm_remove(ROOT)
    assert [lost.key for lost in kernel.lost] == [ROOT]


def test_a_call_that_hangs_does_nothing_more(machine: Machine, kernel: SimKernel) -> None:
    machine.mounts = machine.mounts[:4]
    machine.the(Dm, CRYPT).suspended = True

    def act() -> None:
        try:
            kernel.flush(ROOT)
        finally:
            kernel.dm_remove(ROOT)

    assert waits(kernel, act)
    assert ROOT in machine.devices
