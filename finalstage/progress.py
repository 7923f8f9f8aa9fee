"""Whether something still moves: what disks have done so far, and what is left to write."""

from __future__ import annotations

from errno import EBUSY, ENOENT

from finalstage.world import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from finalstage.kernel import Kernel

KIB = 1024

STILL_SECONDS = 2.0
"""How long a device must have requests in flight, and answer none, to count as silent."""

TICK = 0.1

GOING_SECONDS, GOING_TICK = 1.0, 0.01
"""How long what is on its way out may do nothing to the devices below it, and how often to look."""


def transferred(kernel: Kernel, device: str) -> int:
    """Return the requests that a disk has completed: Documentation/block/stat.rst, fields 1, 5,
    12 and 16. 0 if it is gone."""
    try:
        fields = text(kernel, f"/sys/dev/block/{device}/stat").split()
        return sum(int(fields[index]) for index in (0, 4, 11, 15) if index < len(fields))
    except (OSError, ValueError):
        return 0


def in_flight(kernel: Kernel, device: str) -> int:
    """Return the requests that a disk has not completed yet."""
    try:
        return sum(map(int, text(kernel, f"/sys/dev/block/{device}/inflight").split()))
    except (OSError, ValueError):
        return 0


def silent(kernel: Kernel, devices: Iterable[str]) -> set[str]:
    """Return those of some devices that have requests in flight and answer none of them.

    That takes STILL_SECONDS, or less where none has any in flight, or all go on answering.
    """
    before = {
        device: transferred(kernel, device) for device in devices if in_flight(kernel, device)
    }
    until = kernel.now() + STILL_SECONDS
    still = list(before)
    while still and kernel.now() < until:
        kernel.sleep(TICK)
        still = [device for device in still if transferred(kernel, device) == before[device]]
    return {device for device in still if in_flight(kernel, device)}


def wait_until_gone(kernel: Kernel, path: str, devices: tuple[str, ...]) -> None:
    """Wait until a directory of sysfs is gone, as long as something moves on the devices below.

    For what the kernel takes down after it was told to, and after the call came back. EBUSY if it
    stays: somebody has it open.
    """
    counts, moved = -1, kernel.now()
    while kernel.now() - moved < GOING_SECONDS:
        try:
            kernel.listdir(path)
        except OSError as error:
            if error.errno == ENOENT:
                return
            raise
        before, counts = counts, sum(transferred(kernel, device) for device in devices)
        if counts != before:
            moved = kernel.now()
        kernel.sleep(GOING_TICK)
    raise OSError(EBUSY, "busy", path)


def dirty_bytes(kernel: Kernel) -> int:
    """Return what waits in memory to be written, on all disks together."""
    total = 0
    try:
        for line in text(kernel, "/proc/meminfo").splitlines():
            name, _, value = line.partition(":")
            if name in ("Dirty", "Writeback"):
                total += int(value.split()[0]) * KIB
    except (OSError, ValueError, IndexError):
        return total
    return total
