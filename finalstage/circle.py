"""Breaks circles: a loop device whose file lies on a file system that stands on it.

In no order can such layers be closed. What costs least is to have the file system written out and
clean while all of it still works, and then to take the loop device away from what is on it.
"""

from __future__ import annotations

from finalstage import mountinfo
from finalstage.bounded import bind, bounded, together
from finalstage.layers.dm import Dm, replace_by_error
from finalstage.layers.mount import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Kernel
    from finalstage.stack import Layer

WRITE_SECONDS, READONLY_SECONDS, CUT_SECONDS = 5.0, 3.0, 3.0
LOOK_SECONDS = 0.05


def break_open(
    kernel: Kernel, circle: tuple[Layer, ...], until: float, say: Callable[[str], None]
) -> None:
    """Break a circle, whose layers stand each on the next, and say so."""
    ids = {layer.id: layer for layer in circle}
    mounts = [layer for layer in circle if isinstance(layer, Mount) and not layer.is_api]
    loops = {layer.id for layer in circle if layer.kind == "loop"}
    cuts = [layer for layer in circle if isinstance(layer, Dm) and loops.intersection(layer.below)]
    titles = " on ".join(layer.title for layer in (*circle, circle[0]))
    if not cuts:
        say(f"cannot break the circle {titles}: the kernel has no way")
        return
    upper, lower = cuts[0], ids[next(id for id in cuts[0].below if id in loops)]
    say(
        f"breaks the circle {titles}: writes out what it can, makes it read-only,"
        f" then takes {lower.title} away from {upper.title}"
    )
    steps = (
        ("write it out", bind(_write_out, kernel, circle, mounts), WRITE_SECONDS),
        ("make it read-only", bind(_read_only, kernel, mounts), READONLY_SECONDS),
        ("flush it", bind(_flush, kernel, cuts), WRITE_SECONDS),
    )
    for what, act, patience in steps:
        problem = bounded(kernel, what, act, patience, until)
        if problem:
            say(f"cannot {what}, the circle of {circle[0].title}: {problem}")
            break  # what hangs in a circle hangs in all of it
    calls = {layer.title: bind(replace_by_error, kernel, layer) for layer in cuts}
    for title, problem in together(kernel, calls, CUT_SECONDS, until).items():
        if problem:
            say(f"cannot take {lower.title} away from {title}: {problem}")


def _write_out(kernel: Kernel, circle: tuple[Layer, ...], mounts: list[Mount]) -> None:
    """Write out the file systems, and again what that has left in the caches of their files."""
    for mount in mounts:
        kernel.syncfs(mount.target)
    for layer in circle:
        if layer.kind == "loop":
            kernel.flush(layer.device)
    for mount in mounts:
        kernel.syncfs(mount.target)


def _flush(kernel: Kernel, layers: list[Dm]) -> None:
    for layer in layers:
        kernel.flush(layer.device)


def _read_only(kernel: Kernel, mounts: list[Mount]) -> None:
    """Turn all file systems of the machine read-only, also those that a loop device writes to; by
    now nothing else is left that could be closed. To freeze them would have the loop device wait
    for ever. Source: do_emergency_remount() in fs/super.c.
    """
    kernel.write("/proc/sysrq-trigger", b"u")
    targets = {mount.target for mount in mounts}
    for _ in range(int(READONLY_SECONDS / LOOK_SECONDS)):
        entries = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
        still = {x.target for x in entries if "ro" not in x.super_options.split(",")}
        if targets.isdisjoint(still):
            # They are called so before their superblocks are written. Who wants to sync one waits
            # for that: s_umount in reconfigure_super() and in syncfs(2).
            for mount in mounts:
                kernel.syncfs(mount.target)
            return
        kernel.sleep(LOOK_SECONDS)
    raise TimeoutError("it can still be written to")
