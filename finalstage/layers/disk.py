"""Disks, and every block device that no other kind claims: not closed, but flushed at the end."""

from __future__ import annotations

from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "disk"
OTHER_KINDS = frozenset(("dm", "md", "partition", "loop"))


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every device with a size that is not of another kind."""
    return [
        Layer(
            id=block_id(block.device),
            kind=KIND,
            type="disk",
            name=block.name,
            below=tuple(block_id(slave) for slave in block.slaves),
            device=block.device,
            closes=False,
        )
        for block in world.blocks
        if block.sectors and not block.entries & OTHER_KINDS
    ]


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache and have the disk write out its own."""
    kernel.flush(layer.device)


close = settle


def release(kernel: Kernel, layer: Layer) -> str:
    """Take the disk away from those who wait for it, in the way of its transport.

    Sources: drivers/block/nbd.c; Documentation/ABI/testing/sysfs-bus-pci (remove);
    nvme_sysfs_delete() in drivers/nvme/host; sdev_store_delete() in drivers/scsi/scsi_sysfs.c.
    virtio-blk has no way, and virtio-scsi never lets a command run out of time.
    """
    if layer.name.startswith("nbd"):
        kernel.clear_nbd(layer.device)
        return "has lost its connection"
    device = f"/sys/dev/block/{layer.device}/device"
    try:
        entries = kernel.listdir(device)
    except FileNotFoundError:
        return ""
    if "delete_controller" in entries:
        kernel.write(f"{device}/delete_controller", b"1")
        return "has lost its controller"
    if layer.name.startswith("nvme"):
        # Its commands are given up when they have taken the driver's io_timeout, 30 s.
        kernel.write(f"{device}/device/remove", b"1")
        return "was removed from its bus"
    if "state" in entries and "delete" in entries:
        kernel.write(f"{device}/state", b"offline")
        kernel.write(f"{device}/delete", b"1")
        return "was deleted"
    return ""
