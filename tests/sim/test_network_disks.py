"""Disks that disappear when they are closed: flushed first, never while held, soon given up."""

from __future__ import annotations

import copy

import pytest

from finalstage.stage import Stage, run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.mount import Frozen, Mount
from tests.sim.kinds.nbd import Nbd
from tests.sim.kinds.nvme import Nvme
from tests.sim.kinds.partition import Partition
from tests.sim.kinds.scsi import Scsi
from tests.sim.kinds.swap import Swap
from tests.sim.kinds.zram import Zram
from tests.sim.machine import Device, Machine
from tests.sim.stacks import bare_machine


def machine(*devices: Device) -> Machine:
    """A machine with ext4 on the last of some devices."""
    made = bare_machine()
    made.devices = {device.device: copy.copy(device) for device in devices}
    made.mounts.append(Mount(10, 1, "/oldroot", devices[-1].device))
    return made


def shut_down(machine: Machine) -> SimKernel:
    """Run the stage on a machine to its end."""
    kernel = SimKernel(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


NBD = Nbd("nbd0", "43:0")
ISCSI = Scsi("sda", "8:0", session="session1")
NVME = Nvme("nvme1n1", "259:0", transport="tcp")
REMOTE = [
    pytest.param(NBD, "nbd nbd0", ("clear_nbd", "43:0"), id="nbd"),
    pytest.param(ISCSI, "iscsi sda", ("write", "/sys/dev/block/8:0/device/delete"), id="iscsi"),
    pytest.param(
        NVME,
        "nvme-tcp nvme1",
        ("write", "/sys/dev/block/259:0/device/delete_controller"),
        id="nvme",
    ),
]


@pytest.mark.parametrize(("disk", "title", "cut"), REMOTE)
def test_one_is_flushed_and_then_cut_off(disk: Disk, title: str, cut: tuple[str, str]) -> None:
    kernel = shut_down(machine(disk))
    assert kernel.done.index(("flush", disk.device)) < kernel.done.index(cut)
    assert kernel.lost == []
    assert f"closed {title}" in "".join(kernel.said)
    assert "remaining 0" in "".join(kernel.said)


@pytest.mark.parametrize(("disk", "title", "cut"), REMOTE)
def test_one_that_is_held_is_not_cut_off(disk: Disk, title: str, cut: tuple[str, str]) -> None:
    """Though the kernel would do it, and nothing that can be seen holds it."""
    hidden = machine(disk)
    hidden.mounts.pop()
    hidden.others.append(Frozen(disk.device))
    kernel = shut_down(hidden)
    assert cut not in kernel.done
    assert kernel.violations == []
    assert f"remains {title}: busy; held by" in "".join(kernel.said)


@pytest.mark.parametrize(("disk", "title", "cut"), REMOTE)
def test_the_cache_of_a_partition_is_written_first(
    disk: Disk, title: str, cut: tuple[str, str]
) -> None:
    """Of one that is mounted, and of one that is not."""
    parts = [Partition(f"p{n}", f"259:{n}", (disk.device,)) for n in (7, 8)]
    kernel = shut_down(machine(disk, *parts))
    for part in parts:
        assert kernel.done.index(("flush", part.device)) < kernel.done.index(cut)
    assert f"closed {title}" in "".join(kernel.said)


@pytest.mark.parametrize("disk", [NBD, ISCSI, NVME], ids=["nbd", "iscsi", "nvme"])
def test_one_that_remains_gets_its_last_flush(disk: Disk) -> None:
    """After what is on it: that may have been written only when all had its turn."""
    part = Partition("p1", "259:7", (disk.device,))
    kernel = SimKernel(machine(disk, part))
    stage = Stage(kernel)
    stage.stack = stage.look()
    stage.unsure = True
    stage.flush()
    flushes = [device for what, device in kernel.done if what == "flush"]
    assert flushes == [part.device, disk.device]


def test_a_local_disk_stays() -> None:
    kernel = shut_down(machine(Nvme("nvme0n1", "259:0"), Scsi("sda", "8:0")))
    assert not [path for what, path in kernel.done if what == "write" and "/device/" in path]


def test_a_lost_connection_is_soon_given_up() -> None:
    """What the kernel waits for it is made short before anything else is done."""
    kernel = shut_down(machine(ISCSI, NVME))
    writes = [
        path
        for what, path in kernel.done
        if what == "write" and path.startswith(("/sys/class/", "/sys/dev/"))
    ]
    assert set(writes[:2]) == {
        "/sys/class/iscsi_session/session1/recovery_tmo",
        "/sys/dev/block/259:0/device/fast_io_fail_tmo",
    }


def test_zram_is_reset_once_nothing_stands_on_it() -> None:
    zram = Zram("zram0", "252:0", ("8:0",), backing="/oldroot/dev/vda")
    made = machine(zram, Disk("vda", "8:0"))
    made.mounts.pop()
    made.swaps.append(Swap("/oldroot/dev/zram0", "252:0"))
    kernel = shut_down(made)
    order = [
        kernel.done.index(each)
        for each in (
            ("swapoff", "/oldroot/dev/zram0"),
            ("write", "/sys/dev/block/252:0/reset"),
            ("flush", "8:0"),
        )
    ]
    assert order == sorted(order)
    assert made.devices["252:0"].sectors == 0
