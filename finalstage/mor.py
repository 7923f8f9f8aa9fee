"""A request to the firmware: overwrite all memory before anything else runs on it.

It is for the reset that comes before we are done, and for what only the kernel itself holds. By
TCG PC Client Platform Reset Attack Mitigation Specification, the firmware honours it when the
machine starts again, be that at once or after a night.
Source: Documentation/filesystems/efivarfs.rst.
"""

from __future__ import annotations

from finalstage.bounded import bounded
from finalstage.lines import Line
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

VARIABLES = "/sys/firmware/efi/efivars"
NAME = "MemoryOverwriteRequestControl-e20939be-32d4-41be-a150-897f85d49829"
SECONDS = 3.0
"""The firmware may write it to flash memory, which is slow."""

NON_VOLATILE, BOOT_SERVICE, RUNTIME = 1, 2, 4
"""Attributes of a variable: UEFI specification, GetVariable(). They stand before its value, in
four bytes."""

REQUEST = bytes((NON_VOLATILE | BOOT_SERVICE | RUNTIME, 0, 0, 0, 1))


def request(kernel: Kernel, until: float) -> list[Line]:
    """Set the variable where the firmware has it; never raises, and returns by `until`."""
    asked: list[bool] = []
    error = bounded(
        kernel, "memory overwrite request", lambda: asked.append(_set(kernel)), SECONDS, until
    )
    if error:
        words = f"cannot ask the firmware to overwrite memory: {error}"
        return [Line(words, bad=True)]
    return [Line("asked the firmware to overwrite memory")] if any(asked) else []


def _set(kernel: Kernel) -> bool:
    """Write the variable; return whether there is one."""
    path = f"{VARIABLES}/{NAME}"
    try:
        if not kernel.listdir(VARIABLES):
            kernel.mount_api("efivarfs", VARIABLES)
        if kernel.read(path) == REQUEST:
            return True
    except OSError as error:
        # No UEFI, a kernel without efivarfs, or firmware that knows no such request.
        if describe(error) in ("not there", "no such device"):
            return False
        raise
    kernel.make_mutable(path)
    kernel.write(path, REQUEST)
    return True
