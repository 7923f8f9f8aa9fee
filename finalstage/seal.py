"""What to do about an encrypted device that would not close: no key stays in it."""

from __future__ import annotations

from finalstage.bounded import bounded
from finalstage.layers import dm
from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

LOCKFS_SECONDS = 5.0
SUSPEND_SECONDS = 5.0
WIPE_SECONDS = 5.0


class Sealed(Value):
    """What became of a device's key: `error` is empty if it is wiped."""

    layer: dm.Dm
    error: str = ""


def seal(kernel: Kernel, layer: dm.Dm, until: float) -> Sealed:
    """Suspend the device and wipe its key; never raises, and returns by `until`.

    First with the file system above frozen and queued I/O written. If that does not come back,
    without either. `key wipe` demands a suspended device, and its result is checked.
    """
    if layer.inactive_table:
        bounded(kernel, f"clear {layer.title}", lambda: kernel.dm_clear(layer.device), 1.0, until)
    if not layer.suspended:
        error = _suspend(kernel, layer, LOCKFS_SECONDS, until, lockfs=True)
        if error:
            error = _suspend(kernel, layer, SUSPEND_SECONDS, until, lockfs=False)
        if error:
            return Sealed(layer, f"cannot suspend it: {error}")
    error = bounded(
        kernel, f"wipe {layer.title}", lambda: dm.wipe_keys(kernel, layer), WIPE_SECONDS, until
    )
    return Sealed(layer, f"cannot wipe its key: {error}" if error else "")


def _suspend(kernel: Kernel, layer: dm.Dm, patience: float, until: float, lockfs: bool) -> str:
    return bounded(
        kernel,
        f"suspend {layer.title}",
        lambda: kernel.dm_suspend(layer.device, lockfs=lockfs, flush=lockfs),
        patience,
        until,
    )
