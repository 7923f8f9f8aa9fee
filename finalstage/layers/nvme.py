"""NVMe disks: flushed; the controllers behind a network that they are reached by are then deleted.

Sources: drivers/nvme/host/core.c, fabrics.c and pci.c.
"""

from __future__ import annotations

from errno import EBUSY, ENETRESET

from finalstage.layers.disk import is_there
from finalstage.stack import Layer
from finalstage.world import block_id, text_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import Block, World

KIND = "nvme"

RECONNECT_SECONDS = 5
"""For a lost connection to come back. By default the kernel tries for ten minutes."""


class Namespace(Layer):
    """A disk of its own; `controllers` are the directories of those that lead to it."""

    controllers: tuple[str, ...] = ()


class Controller(Layer):
    """What connects disks over a network; `path` is its directory, `disks` their numbers."""

    path: str = ""
    disks: tuple[str, ...] = ()


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every NVMe disk, and every controller that leads to one of them over a network."""
    disks: list[Layer] = []
    remote: dict[str, Controller] = {}
    for block in world.blocks:
        if block.name[:4] != "nvme" or "device" not in block.entries or not block.sectors:
            continue
        paths = _controllers(kernel, block)
        below = []
        for name, path in paths.items():
            transport = text_if_there(kernel, f"{path}/transport")
            if transport in ("pcie", ""):  # before Linux 4.8 it was not said, as there was no other
                continue
            id = f"nvme:{name}"
            below.append(id)
            known = remote.get(id) or Controller(
                id=id, kind=KIND, type=f"nvme-{transport}", name=name, path=path
            )
            remote[id] = known.but(disks=(*known.disks, block.device))
        disks.append(
            Namespace(
                id=block_id(block.device),
                kind=KIND,
                type="disk",
                name=block.name,
                below=tuple(below),
                device=block.device,
                closes=False,
                is_disk=True,
                controllers=tuple(paths.values()),
            )
        )
    return [*disks, *remote.values()]


def _controllers(kernel: Kernel, block: Block) -> dict[str, str]:
    """Return the directories of the controllers that lead to a disk, by their names.

    It lies below its one controller, or below a subsystem that has several.
    """
    device = f"/sys/dev/block/{block.device}/device"
    entries = kernel.listdir(device)
    if "reset_controller" in entries:
        return {kernel.readlink(device).split("/")[-1]: device}
    return {
        name: f"{device}/{name}" for name in entries if name[:4] == "nvme" and name[4:].isdigit()
    }


def hurry(kernel: Kernel, layer: Layer) -> None:
    """Have a lost connection fail what waits for it soon; to be asked before it is lost."""
    if isinstance(layer, Controller):
        kernel.write(f"{layer.path}/fast_io_fail_tmo", str(RECONNECT_SECONDS).encode())


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out a disk's page cache and have the disk write out its own."""
    if isinstance(layer, Namespace):
        kernel.flush(layer.device)


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush a disk. Delete a controller, unless one of its disks is held.

    The kernel would delete it as well: nvme_sysfs_delete().
    """
    if isinstance(layer, Controller):
        for disk in layer.disks:
            kernel.flush(disk, alone=True)
        kernel.write(f"{layer.path}/delete_controller", b"1")
    else:
        settle(kernel, layer)


def release(kernel: Kernel, layer: Layer) -> str:
    """Have what waits for a disk fail, by taking away all controllers that lead to it.

    Its driver may remove it meanwhile, by itself or after a reset. Then what waited for it has
    failed, and whatever could not be done to it is no matter.
    """
    if not isinstance(layer, Namespace):
        return ""
    try:
        done = ""
        for path in layer.controllers:
            done = _take_away(kernel, path)
        return done
    except OSError:
        if is_there(kernel, layer):
            raise
        return "is gone"


def _take_away(kernel: Kernel, controller: str) -> str:
    """Have the driver take a controller for dead, and fail what waits for it.

    One behind a network can be deleted. Another the driver resets, and tries everything again, if
    it answers on its registers. So those are hidden first. Where that is not possible, nothing may
    be tried again, and the reset takes its time: a dead controller is asked to end its queues, for
    a minute. One that is found dead is removed behind our back: from its reset on nothing of it
    may be there any more. Sources: nvme_reset_work(), nvme_dev_disable() and
    nvme_remove_dead_ctrl() in pci.c, nvme_decide_disposition() in core.c.
    """
    if "delete_controller" in kernel.listdir(controller):
        kernel.write(f"{controller}/delete_controller", b"1")
        return "has lost its controller"
    done = "has lost its controller"
    try:
        kernel.pci_hide(f"{controller}/device/config")
    except OSError:
        kernel.write("/sys/module/nvme_core/parameters/max_retries", b"0")
        done = "was reset, and nothing is tried again"
    try:
        kernel.write(f"{controller}/reset_controller", b"1")
    except OSError as error:
        # What a reset ends in that finds the controller dead, and what is said where the driver
        # has begun one by itself, after a time-out of its own.
        if error.errno not in (ENETRESET, EBUSY):
            raise
    return done
