"""Swap areas: switched off, which reads everything in them back into memory.

Source: mm/swapfile.c.
"""

from __future__ import annotations

from errno import ENOMEM

from finalstage.layers.filesystems import device_of
from finalstage.stack import Layer
from finalstage.world import World, block_id, holding_mount, swap_id, swaps, text_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

KIND = "swap"


SPARE_KIB = 16 << 10
"""Memory that must be left when everything in an area has been read back."""

OVERCOMMIT = "/proc/sys/vm/overcommit_memory"
DELETED = " (deleted)"


class Swap(Layer):
    """A swap area; `path` is what the kernel calls it, `area` the block device that it is."""

    path: str = ""
    area: str = ""


def scan(kernel: Kernel, world: World) -> list[Swap]:
    """Every line of /proc/swaps. A file in use cannot be deleted, may_delete() in fs/namei.c, but
    the node of a device can."""
    found = []
    for area in world.swaps:
        device = ""
        if area.type == "partition":
            device = device_of(kernel, world, area.path.removesuffix(DELETED))
        mount = holding_mount(world, area.path)
        below = (block_id(device),) if device else ()
        found.append(
            Swap(
                id=swap_id(area.path),
                kind=KIND,
                type="swap",
                name=world.name_of(area.path),
                # The mount too: its file, or its device node in /dev, is open.
                below=below + ((mount,) if mount else ()),
                places=(mount,) if mount and device else (),
                path=area.path,
                area=device,
            )
        )
    return found


def close(kernel: Kernel, layer: Layer) -> None:
    """Switch it off, if there is memory for what is in it. Else ENOMEM, before anything is tried:
    who calls swapoff(2) is the first to be killed when the kernel runs out of memory. What has been
    swapped out may still go with a file system in memory, or with a process.

    The kernel reckons with the whole of the area, not with what is in use of it, if it was told to
    be strict: __vm_enough_memory() in mm/util.c.
    """
    assert isinstance(layer, Swap)
    if why := refusal(kernel, layer):
        raise OSError(ENOMEM, why, layer.path)
    try:
        kernel.swapoff(layer.path, layer.area)
    except OSError as error:
        if error.errno != ENOMEM:
            raise
        kernel.write(OVERCOMMIT, b"1")
        kernel.swapoff(layer.path, layer.area)


def refusal(kernel: Kernel, layer: Swap) -> str:
    """Return why there is no switching it off now, "" where nothing is in the way."""
    used = sum(area.used for area in swaps(kernel, []) if area.path == layer.path)
    fits = _fits(kernel, used + SPARE_KIB)
    return "" if fits else f"no memory for {used >> 10} MiB that are in it"


def settle(kernel: Kernel, layer: Layer) -> None:
    """Nothing: what is in swap is as lost as what is in memory."""


def _fits(kernel: Kernel, kib: int) -> bool:
    """Whether so much memory can be had, as far as the kernel tells."""
    for line in text_if_there(kernel, "/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return kib <= int(value.split()[0])
    return True
