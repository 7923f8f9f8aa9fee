"""How a layer is closed beside a living system: as the stage does it, but for what only somebody
may do who takes the machine down.

Nobody is ended, nothing is taken from its place while it is in use, no setting of the kernel is
changed, what is still held is not marked to go later, and what cannot be written out stays.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EBUSY, EIO, ENODEV, ENOMEM, ENXIO

from finalstage import layers, mountinfo
from finalstage.kernel import Kernel
from finalstage.layers.monitor import END_SECONDS, TICK, Monitor, is_running
from finalstage.layers.mount import Mount, unmount
from finalstage.layers.swap import Swap, refusal
from finalstage.monitors import is_there
from finalstage.stack import Layer
from finalstage.world import mount_id


def close(kernel: Kernel, layer: Layer, lossy: bool = False) -> None:
    """Close a layer. OSError if that failed, EBUSY if it is held.

    What cannot be written out stays, unless it may be `lossy`: then that is raised afterwards.
    """
    try:
        if layer.kind in WRITTEN_OUT:
            _write_out(kernel, layer)
    except OSError as error:
        if not lossy or error.errno not in LOST:
            raise
    try:
        WAYS.get(layer.kind, layers.close)(kernel, layer)
    except OSError as error:
        if lossy and error.errno in LOST and layer.kind in DISKS:
            layers.release(kernel, layer)
        raise


def flush(kernel: Kernel, layer: Layer) -> None:
    """Write out what a device that stays has in its page cache, and have it do so with its own."""
    kernel.flush(layer.device)


def _mount(kernel: Kernel, layer: Layer) -> None:
    """Unmount it, if it is still what is mounted there. To unmount / would turn it read-only, and
    succeed: do_umount_root() in fs/namespace.c."""
    assert isinstance(layer, Mount)
    if layer.target == "/":
        raise OSError(EBUSY, "it is the root directory", layer.target)
    entries = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    there = [entry for entry in entries if entry.target == layer.target]
    if there and mount_id(there[-1].id) != layer.id:
        raise OSError(EBUSY, "something else is mounted over it", layer.target)
    if there:  # else it has gone with its peer
        unmount(kernel, layer)


def _swap(kernel: Kernel, layer: Layer) -> None:
    """Switch it off, by the kernel's own reckoning of what memory there is."""
    assert isinstance(layer, Swap)
    if why := refusal(kernel, layer):
        raise OSError(ENOMEM, why, layer.path)
    kernel.swapoff(layer.path, layer.area)


def _write_out(kernel: Kernel, layer: Layer) -> None:
    """Write out what is to be closed. EBUSY for what would then go with its last user, whenever
    that is, if it has one."""
    try:
        if layer.kind in GO_LATER and layer.device:
            kernel.flush(layer.device, alone=True)
        else:
            layers.settle(kernel, layer)
    except OSError as error:
        if error.errno != ENXIO:  # it has gone by itself
            raise


def _monitor(kernel: Kernel, layer: Layer) -> None:
    """Wait until it has ended, which it does when its last array has gone: wait_and_act() in
    monitor.c of mdadm."""
    assert isinstance(layer, Monitor)
    until = kernel.now() + END_SECONDS
    while is_running(kernel, layer.pid):
        if kernel.now() >= until or any(is_there(kernel, array) for array in layer.arrays):
            raise OSError(EBUSY, "busy", layer.name)
        kernel.sleep(TICK)


WAYS: dict[str, Callable[[Kernel, Layer], None]] = {
    "mount": _mount,
    "swap": _swap,
    "monitor": _monitor,
}
"""The kinds that are closed in another way than by the stage."""

GO_LATER = ("loop", "bcache")
WRITTEN_OUT = ("dm", "md", *GO_LATER)
"""Those that the stage closes also where they cannot be written out."""

DISKS = ("nbd", "scsi")
"""Those that the kernel forgets with all that is still to be written to them."""

LOST = (EIO, ENODEV)
"""What is said by what can be written to no more."""
