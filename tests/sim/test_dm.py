"""What is odd about the device mapper: what waits in it for nobody, and what goes by itself."""

from __future__ import annotations

import errno
import os

import pytest

from finalstage.kernel import Target
from finalstage.scan import scan
from finalstage.stage import OLD_ROOT, OWN_MOUNTS, run
from tests.sim.faults import HANG
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine
from tests.sim.properties import complaints
from tests.sim.stacks import bare_machine, main_stack

CRYPT, ROOT, EXTRA = "253:0", "253:1", "253:7"
NO_PATH = "2 0 0 0 2 1 E 0 1 2 8:0 F 1 0 1 E 0 1 2 8:16 F 1 0 1 "
PATH = "2 0 0 0 2 1 E 0 1 2 8:0 F 1 0 1 A 0 1 2 8:16 A 0 0 1 "


def shut_down(machine: Machine, faults: dict[object, object] | None = None) -> SimKernel:
    """Run the stage to its end."""
    kernel = SimKernel(machine, faults)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


def said(kernel: SimKernel) -> str:
    """All that a person has read."""
    return "".join(kernel.said)


def left(kernel: SimKernel) -> set[str]:
    """Return the kernel names of the devices that are left."""
    return {device.name for device in kernel.machine.devices.values()}


def done(kernel: SimKernel, device: str) -> list[str]:
    """Return what was done to a device, in order."""
    looks = ("dm_status", "dm_info")
    return [what for what, to in kernel.done if to == device and what not in looks]


def beside(*targets: Target, **fields: object) -> Machine:
    """The main stack, and beside it a dm device on a disk, with a file system on it."""
    machine = main_stack()
    machine.devices["8:0"] = Disk("sda", "8:0")
    extra = Dm("dm-7", EXTRA, ("8:0",), title="extra", targets=targets)
    for name, value in fields.items():
        setattr(extra, name, value)
    machine.devices[EXTRA] = extra
    machine.mounts.append(Mount(30, 10, "/oldroot/srv", EXTRA))
    return machine


LINEAR = Target(0, 2048, "linear")


def test_what_somebody_left_suspended_goes_on_before_anything_is_written() -> None:
    kernel = shut_down(beside(LINEAR, suspended=True))
    assert kernel.lost == []
    assert left(kernel) == {"vda", "vdb", "sda"}
    assert done(kernel, EXTRA) == ["dm_resume", "flush", "dm_remove"]
    assert "linear extra was suspended, and goes on" in said(kernel)


def test_of_two_tables_the_one_by_which_was_written_goes_on() -> None:
    kernel = shut_down(beside(LINEAR, suspended=True, inactive_table=True))
    assert kernel.lost == []
    assert done(kernel, EXTRA)[:2] == ["dm_clear", "dm_resume"]


def test_of_two_suspended_ones_the_lower_goes_on_first() -> None:
    machine = beside(LINEAR, suspended=True)
    machine.devices["253:8"] = Dm("dm-8", "253:8", (EXTRA,), targets=(LINEAR,))
    machine.the(Dm, "253:8").suspended = True
    machine.mounts[-1].device = "253:8"
    kernel = shut_down(machine)
    resumed = [device for what, device in kernel.done if what == "dm_resume"]
    assert resumed == [EXTRA, "253:8"]
    assert kernel.lost == []


def test_a_crypt_without_its_key_stays_suspended_and_so_does_one_above() -> None:
    """As `cryptsetup luksSuspend` leaves it. What stands on it never gets its data back."""
    machine = main_stack()
    crypt = machine.the(Dm, CRYPT)
    crypt.keyed, crypt.suspended = False, True
    kernel = shut_down(machine)
    assert "crypt cryptroot takes no I/O, and does not go on" in said(kernel)
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 90


def test_a_key_above_a_disk_that_answers_nothing_stays_ready_to_be_wiped() -> None:
    machine = main_stack()
    machine.the(Dm, CRYPT).suspended = True
    for disk in ("254:0", "254:16"):
        machine.devices[disk].dead = True
    kernel = shut_down(machine)
    assert "crypt cryptroot stays suspended: what is below does not answer" in said(kernel)
    assert CRYPT not in kernel.machine.devices or not kernel.machine.the(Dm, CRYPT).keyed


def test_a_multipath_without_a_path_fails_before_anything_is_written() -> None:
    kernel = shut_down(beside(Target(0, 2048, "multipath", NO_PATH), queues=True))
    assert [lost.key for lost in kernel.lost] == ["mount:30", EXTRA]
    assert kernel.down_at < 10
    assert done(kernel, EXTRA)[0] == "dm_message"
    assert "multipath extra has no path left: what was queued for it is lost" in said(kernel)
    assert left(kernel) == {"vda", "vdb", "sda"}


def test_a_multipath_with_a_path_is_left_as_it_is() -> None:
    machine = beside(Target(0, 2048, "multipath", PATH))
    machine.devices["254:0"].dead = True  # so that what hangs is freed
    machine.devices["253:8"] = Dm("dm-8", "253:8", (EXTRA,), targets=(LINEAR,))
    machine.mounts[-1].device = "253:8"
    kernel = shut_down(machine, {("umount", "/oldroot/srv"): HANG})
    assert "dm_message" not in done(kernel, EXTRA)


def test_a_multipath_that_loses_its_last_path_on_the_way_is_freed() -> None:
    machine = beside(Target(0, 2048, "multipath", PATH), queues=True)

    class Losing(SimKernel):
        def dm_status(self, device: str):  # type: ignore[no-untyped-def]
            if device == EXTRA and self.now() > 20:
                machine.the(Dm, EXTRA).targets = (Target(0, 2048, "multipath", NO_PATH),)
            return super().dm_status(device)

    kernel = Losing(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    assert "multipath extra does not answer: it no longer queues I/O" in said(kernel)


def test_a_delay_is_told_to_let_go() -> None:
    machine = beside(Target(0, 2048, "delay"))
    kernel = shut_down(machine, {("umount", "/oldroot/srv"): HANG})
    assert done(kernel, EXTRA)[1:3] == ["dm_suspend", "dm_resume"]
    assert kernel.down_at <= 90


def test_a_device_that_goes_by_itself_has_gone() -> None:
    kernel = shut_down(beside(LINEAR, deferred=True))
    assert "remaining 0, keys left 0" in said(kernel)
    assert "closed linear extra" in said(kernel)


def test_a_device_that_is_being_removed_hides_no_other() -> None:
    gone = OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    faults = {("dm_status", EXTRA): gone, ("dm_info", EXTRA): gone}
    kernel = SimKernel(beside(LINEAR), faults)
    stack = scan(kernel, OWN_MOUNTS, OLD_ROOT)
    assert stack.problems == ()
    titles = {layer.title for layer in stack.layers}
    assert {"dm dm-7", "crypt cryptroot", "linear vg-root"} <= titles


def test_a_removal_that_says_yes_and_does_nothing_is_no_success() -> None:
    class Promising(SimKernel):
        def dm_remove(self, device: str) -> None:
            if device != CRYPT:
                super().dm_remove(device)

    kernel = Promising(main_stack())
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    assert "remains error cryptroot" in said(kernel)
    assert not kernel.machine.the(Dm, CRYPT).keyed


@pytest.mark.parametrize("origin", ["snapshot-origin", "snapshot-merge"])
def test_a_snapshot_goes_after_its_origin(origin: str) -> None:
    """Else what is written to the origin at last would be in the snapshot too."""
    machine = beside(Target(0, 2048, origin))
    machine.devices |= {
        "8:16": Disk("sdb", "8:16"),
        "253:3": Dm("dm-3", "253:3", ("8:0",), targets=(LINEAR,)),
        "253:4": Dm("dm-4", "253:4", ("8:16",), targets=(LINEAR,)),
        "253:5": Dm("dm-5", "253:5", ("253:3", "253:4"), targets=(Target(0, 2048, "snapshot"),)),
    }
    machine.devices[EXTRA].below = ("253:3",)
    kernel = shut_down(machine)
    removed = [device for what, device in kernel.done if what == "dm_remove"]
    assert removed.index(EXTRA) < removed.index("253:5") < removed.index("253:3")


def thin(count: int) -> Machine:
    """The main stack, and beside it thin volumes, which do not say what they are."""
    machine = main_stack()
    for number in range(count):
        device = f"253:{20 + number}"
        machine.devices[device] = Dm(
            f"dm-{20 + number}", device, ("254:0",), targets=(Target(0, 8, "thin"),)
        )
    return machine


def test_devices_that_do_not_say_what_they_are_hide_no_other() -> None:
    machine = thin(20)
    faults: dict[object, object] = {("dm_status", f"253:{20 + n}"): HANG for n in range(20)}
    kernel = shut_down(machine, faults)
    assert left(kernel) == {"vda", "vdb"}
    assert kernel.down_at < 20


def test_a_device_that_has_not_answered_is_not_asked_again() -> None:
    class Counting(SimKernel):
        asked = 0

        def dm_status(self, device: str):  # type: ignore[no-untyped-def]
            self.asked += device == "253:20"
            return super().dm_status(device)

    kernel = Counting(thin(1), {("dm_status", "253:20"): HANG, ("dm_remove", "253:20"): HANG})
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    assert kernel.asked == 1


def test_what_cannot_be_asked_may_have_a_key_and_loses_its_table() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    denied = OSError(errno.EPERM, os.strerror(errno.EPERM))
    kernel = shut_down(machine, {("dm_status", CRYPT): denied})
    assert CRYPT not in machine.devices
    assert "wiped the key of unread cryptroot" in said(kernel)


def test_thin_volumes_above_a_sealed_device_answer_again_with_errors() -> None:
    """Though their pool, suspended with them, keeps them from that until it goes on."""
    machine = main_stack()
    machine.devices |= {
        "253:2": Dm("dm-2", "253:2", (CRYPT,), targets=(Target(0, 8, "thin-pool"),)),
        "253:3": Dm("dm-3", "253:3", ("253:2",), targets=(Target(0, 8, "thin"),)),
    }
    machine.mounts.append(Mount(30, 10, "/oldroot/thin", "253:3", busy=True))
    kernel = shut_down(machine)
    assert "wiped the key of crypt cryptroot" in said(kernel)
    assert not machine.the(Dm, "253:3").suspended
    assert kernel.down_at < 5


@pytest.mark.parametrize(("mode", "told"), [("out_of_data_space", True), ("rw", False)])
def test_a_full_pool_does_not_wait_for_more_space(mode: str, told: bool) -> None:
    status = f"1 12/1024 128/128 - {mode} discard_passdown queue_if_no_space - 1024 "
    machine = beside(Target(0, 2048, "thin-pool", status))
    kernel = shut_down(machine)
    timeout = "/sys/module/dm_thin_pool/parameters/no_space_timeout"
    assert machine.settings[timeout] == "1\n"
    assert (done(kernel, EXTRA)[:2] == ["dm_suspend", "dm_resume"]) == told
    assert ("thin-pool extra has no space left" in said(kernel)) == told


def test_a_snapshot_whose_store_lies_on_its_origin_goes_first() -> None:
    machine = bare_machine()
    targets = {kind: (Target(0, 1024, kind),) for kind in ("linear", "snapshot", "snapshot-origin")}
    machine.devices = {
        "8:0": Disk("vda", "8:0"),
        "253:0": Dm("dm-0", "253:0", ("8:0",), title="real", targets=targets["linear"]),
        "253:1": Dm("dm-1", "253:1", ("253:0",), title="vol", targets=targets["snapshot-origin"]),
        "7:0": Loop("loop0", "7:0", backing="/oldroot/store", lies_on="253:1"),
        "253:2": Dm("dm-2", "253:2", ("253:0", "7:0"), title="old", targets=targets["snapshot"]),
    }
    machine.mounts.append(Mount(10, 1, "/oldroot", "253:1"))
    assert complaints(machine, {}) == []
