"""One call, bounded in time."""

from __future__ import annotations

from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Kernel


def bounded(
    kernel: Kernel, name: str, function: Callable[[], object], patience: float, until: float
) -> str:
    """Run `function` for at most `patience` seconds, and not past `until`.

    Return an empty string, or why it failed. A call that does not come back is left behind.
    """
    call = kernel.start(name, function)
    if not kernel.wait((call,), min(patience, until - kernel.now())):
        return f"no answer in {kernel.now() - call.started:.0f} s"
    return describe(call.error) if call.error else ""
