"""A request to the firmware: overwrite all memory before anything else runs on it.

It is for the reset that comes before we are done, and for what only the kernel itself holds. By
TCG PC Client Platform Reset Attack Mitigation Specification, the firmware honours it when the
machine starts again, be that at once or after a night.
"""

from __future__ import annotations

from finalstage import efi
from finalstage.bounded import bounded
from finalstage.lines import Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

NAME = "MemoryOverwriteRequestControl-e20939be-32d4-41be-a150-897f85d49829"
SECONDS = 3.0
"""The firmware may write it to flash memory, which is slow."""

REQUEST = b"\1"


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
    """Write the variable; return whether there is one, in firmware that knows such a request."""
    if not efi.are_there(kernel):
        return False
    found = efi.read(kernel, NAME)
    if found is not None and found != efi.ATTRIBUTES + REQUEST:
        efi.change(kernel, NAME, REQUEST)
    return found is not None
