"""Calls that are bounded in time, one or many side by side."""

from __future__ import annotations

from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from finalstage.kernel import Kernel


def bind(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    """Return a call without arguments, as functools.partial would; functools is not in the tree."""
    return lambda: function(*arguments)


def bounded(
    kernel: Kernel, name: str, function: Callable[[], object], patience: float, until: float
) -> str:
    """Run `function` for at most `patience` seconds, and not past `until`.

    Return an empty string, or why it failed. A call that does not come back is left behind.
    """
    return together(kernel, {name: function}, patience, until)[name]


def together(
    kernel: Kernel, functions: Mapping[str, Callable[[], object]], patience: float, until: float
) -> dict[str, str]:
    """Run functions side by side, all of them for at most `patience` seconds, not past `until`.

    Return for each an empty string, or why it failed.
    """
    until = min(until, kernel.now() + patience)
    calls = {name: kernel.start(name, function) for name, function in functions.items()}
    waiting = list(calls.values())
    while waiting:
        done = kernel.wait(waiting, until - kernel.now())
        if not done:
            break
        waiting = [call for call in waiting if not call.done]
    found = {}
    for name, call in calls.items():
        if not call.done:
            found[name] = f"no answer in {kernel.now() - call.started:.0f} s"
        else:
            found[name] = describe(call.error) if call.error else ""
    return found
