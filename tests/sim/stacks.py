"""Machines that several tests begin with."""

from __future__ import annotations

from finalstage.kernel import Target
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.nbd import Nbd
from tests.sim.kinds.nvme import Nvme
from tests.sim.kinds.scsi import Scsi
from tests.sim.machine import Machine, Process


def disk(name: str, device: str) -> Disk:
    """Return a disk of the kind that has such names."""
    kinds: dict[str, type[Disk]] = {"sd": Scsi, "nv": Nvme, "nb": Nbd}
    return kinds.get(name[:2], Disk)(name, device)


def bare_machine() -> Machine:
    """A machine without any storage: the tree's own mounts, and the stage's processes."""
    return Machine(
        mounts=[
            Mount(1, 0, "/", "0:30", "tmpfs"),
            Mount(2, 1, "/proc", "0:31", "proc"),
            Mount(3, 1, "/sys", "0:32", "sysfs"),
            Mount(4, 1, "/dev", "0:6", "devtmpfs"),
        ],
        processes={
            1: Process(1, "finalstage", 0, "finalstage"),
            2: Process(2, "kthreadd", 0, "", kernel_thread=True),
            50: Process(50, "stage", 1, "/usr/lib/finalstage/stage"),
        },
    )


def main_stack() -> Machine:
    """ext4 on LVM on LUKS on RAID1 over two disks, as root; the tree's own mounts beside it."""
    machine = bare_machine()
    for device in (
        Disk("vda", "254:0"),
        Disk("vdb", "254:16"),
        Md("md0", "9:0", ("254:0", "254:16")),
        Dm(
            "dm-0",
            "253:0",
            ("9:0",),
            title="cryptroot",
            targets=(Target(0, 2048, "crypt"),),
            keyed=True,
        ),
        Dm("dm-1", "253:1", ("253:0",), title="vg-root", targets=(Target(0, 1024, "linear"),)),
    ):
        machine.devices[device.device] = device
    machine.mounts += [
        Mount(10, 1, "/oldroot", "253:1"),
        Mount(11, 10, "/oldroot/dev", "0:6", "devtmpfs"),
        Mount(12, 10, "/oldroot/run", "0:33", "tmpfs"),
    ]
    return machine
