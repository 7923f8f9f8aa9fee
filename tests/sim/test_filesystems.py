"""File systems that lie on more than one device, and overlays, on a simulated machine."""

from __future__ import annotations

import pytest

from finalstage.kernel import Target
from tests.sim.kernel import SimKernel
from tests.sim.kinds.btrfs import Btrfs
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.journal import Journaled
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.overlay import Clone, Overlay
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine, Process
from tests.sim.properties import complaints, shut_down, stack_of
from tests.sim.stacks import bare_machine

DISKS = ("8:0", "8:1", "8:2")


def crypt(name: str, device: str, below: str) -> Dm:
    """Return an encrypted device."""
    targets = (Target(0, 2048, "crypt"),)
    return Dm(name, device, (below,), title=f"crypt-{name}", targets=targets, keyed=True)


def machine(*devices: Dm | Loop) -> Machine:
    """Return a machine with three disks, and devices."""
    found = bare_machine()
    disks = (Disk(f"vd{index}", device, dirty=False) for index, device in enumerate(DISKS))
    found.devices = {device.device: device for device in (*disks, *devices)}
    return found


def on_two(with_journal: bool) -> Machine:
    """Return a machine whose root lies on two encrypted devices."""
    found = machine(crypt("dm-0", "253:0", "8:0"), crypt("dm-1", "253:1", "8:1"))
    if with_journal:
        root: Mount = Journaled(10, 1, "/oldroot", "253:0", journal="253:1", thread=99)
        found.processes[99] = Process(99, "jbd2/dm-1", 2, "", kernel_thread=True)
    else:
        on = ("253:0", "253:1")
        root = Btrfs(10, 1, "/oldroot", "0:50", "btrfs", on=on, node="/dev/dm-1")
    found.mounts.append(root)
    return found


def live() -> Machine:
    """Return a machine whose root is an overlay: of an image, which is a file on what is mounted in
    it, and of another such mount."""
    found = machine(
        crypt("dm-0", "253:0", "8:0"),
        Loop("loop0", "7:0", backing="/oldroot/run/media/image", lies_on="253:0"),
    )
    options = "lowerdir=/run/lower,upperdir=/run/upper/u,workdir=/run/upper/w"
    found.mounts += [
        Overlay(10, 1, "/oldroot", "0:50", "overlay", options=options, dirty=False, upper=("8:1",)),
        Mount(11, 10, "/oldroot/run", "0:51", "tmpfs", dirty=False),
        Mount(12, 11, "/oldroot/run/media", "253:0"),
        Mount(13, 11, "/oldroot/run/lower", "7:0", "squashfs", readonly=True, dirty=False),
        Mount(14, 11, "/oldroot/run/upper", "8:1", "xfs"),
    ]
    found.others += [
        Clone("7:0", dirty=False, overlay=10, on=("7:0",)),
        Clone("8:1", overlay=10, on=("8:1",)),
    ]
    return found


def tried(kernel: SimKernel, *operations: str) -> list[str]:
    """Return what some operations were tried on, in order."""
    return [name for operation, name in kernel.done if operation in operations]


@pytest.mark.parametrize("with_journal", [True, False])
def test_closes_each_once_when_the_last_device_is_free(with_journal: bool) -> None:
    kernel = shut_down(on_two(with_journal))
    assert tried(kernel, "umount", "dm_remove")[0] == "/oldroot"
    assert sorted(tried(kernel, "umount", "dm_remove")[1:]) == ["253:0", "253:1"]
    assert complaints(on_two(with_journal), {}) == []


def test_a_btrfs_of_which_no_node_is_left_is_closed_before_all_that_might_be_its_devices() -> None:
    found = on_two(with_journal=False)
    (root,) = [mount for mount in found.mounts if isinstance(mount, Btrfs)]
    root.node = "/dev/nowhere"
    assert tried(shut_down(found), "umount", "dm_remove")[0] == "/oldroot"


def test_a_root_on_what_is_mounted_in_it_is_closed() -> None:
    kernel = shut_down(live())
    assert set(kernel.machine.devices) == set(DISKS)
    assert tried(kernel, "move_mount") == ["/oldroot/run/media"]
    assert "remaining 0, keys left 0" in "".join(kernel.said)
    assert complaints(live(), {}) == []


def test_what_an_overlay_lies_on_goes_after_it() -> None:
    found = machine()
    options = "lowerdir=/a/l,upperdir=/sysroot/b/u,workdir=/sysroot/b/w"
    found.mounts += [
        Mount(10, 1, "/oldroot", "8:2"),
        Mount(11, 10, "/oldroot/a", "8:0"),
        Mount(12, 10, "/oldroot/b", "8:1"),
        Overlay(13, 10, "/oldroot/m", "0:50", "overlay", options=options, dirty=False),
    ]
    assert tried(shut_down(found), "umount")[0] == "/oldroot/m"


def test_what_a_busy_mount_is_on_is_closed() -> None:
    found = machine(crypt("dm-0", "253:0", "8:0"))
    found.mounts += [
        Mount(10, 1, "/oldroot", "253:0"),
        Mount(11, 10, "/oldroot/busy", "8:1", busy=True),
    ]
    kernel = shut_down(found)
    assert set(kernel.machine.devices) == set(DISKS)
    assert "remains ext4 /busy: busy" in "".join(kernel.said)


@pytest.mark.parametrize("fstype", ["tmpfs", "ext4"])
def test_swap_is_switched_off_once_no_tmpfs_can_be_in_it(fstype: str) -> None:
    found = machine()
    found.mounts += [
        Mount(10, 1, "/oldroot", "8:0"),
        Mount(11, 10, "/oldroot/tmp", "0:50" if fstype == "tmpfs" else "8:2", fstype),
    ]
    found.swaps.append(Swap("/oldroot/dev/8:1", "8:1"))
    by_id = stack_of(found).by_id
    below = [by_id[id].kind for id in by_id["mount:11"].below if id in by_id]
    assert ("swap" in below) == (fstype == "tmpfs")


def test_swap_does_not_wait_for_a_tmpfs_that_its_node_lies_on() -> None:
    found = machine()
    found.mounts += [Mount(10, 1, "/oldroot", "0:50", "tmpfs")]
    found.swaps.append(Swap("/oldroot/dev/8:1", "8:1"))
    kernel = shut_down(found)
    assert found.swaps == []
    assert tried(kernel, "swapoff", "umount") == ["/oldroot/dev/8:1", "/oldroot"]


def test_disks_below_what_could_not_be_read_are_flushed_at_the_end() -> None:
    """Nobody then knows that the journal of what stands on dm-0 lies on another disk."""
    found = machine(Dm("dm-0", "253:0", ("8:0",), targets=(Target(0, 2048, "linear"),)))
    found.mounts.append(Journaled(10, 1, "/oldroot", "253:0", journal="8:1", thread=99))
    found.processes[99] = Process(99, "jbd2/vd1", 2, "", kernel_thread=True)
    faults = {("read", "/sys/class/block/dm-0/dev"): OSError(5, "Input/output error")}
    assert complaints(found, faults) == []


def test_a_disk_below_an_overlay_that_went_late_gets_its_last_flush() -> None:
    """Two overlays, each over the place that the other was made of: what they lean on is a circle,
    and the upper file system is unmounted before the overlay that writes to it."""
    found = machine()
    places = "lowerdir=/d/{0}/l,upperdir=/d/{0}/u,workdir=/d/{0}/w"
    on_a, on_b = places.format("a"), places.format("b")
    found.mounts += [
        Mount(10, 1, "/oldroot/d/a", "8:0"),
        Overlay(11, 1, "/oldroot/d/b", "0:50", "overlay", options=on_a, upper=("8:0",)),
        Mount(12, 11, "/oldroot/d/b", "8:1"),
        Overlay(13, 10, "/oldroot/d/a", "0:51", "overlay", options=on_b, upper=("8:1",)),
    ]
    found.others += [
        Clone("8:0", False, overlay=11, on=("8:0",)),
        Clone("8:1", overlay=13, on=("8:1",)),
    ]
    kernel = shut_down(found)
    assert kernel.lost == []
    assert not found.devices["8:0"].dirty
    assert not found.devices["8:1"].dirty
