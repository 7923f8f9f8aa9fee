"""Monitors: the processes that keep the metadata of arrays whose metadata is not the kernel's.

A write to such an array waits until its monitor has noted on the members that it is not clean any
more, and when it has become idle or was stopped the monitor notes that it is clean again. So each
must live until its arrays are gone. mdmon(8) is known by what it does: it has `array_state` open.
Sources: mdmon(8), monitor.c in mdadm, md_write_start() in drivers/md/md.c.
"""

from __future__ import annotations

from errno import EBUSY, ENOENT

from finalstage.world import BLOCKS, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

EXTERNAL = "external:"

PENDING = "write-pending"
DIRTY = ("active", "active-idle", PENDING)
"""The states of an array in which its metadata has to say that it may not be clean."""

CLEAN_SECONDS, TICK = 1.0, 0.01
"""How long to wait until nothing is being written to an array, and how often to look."""


def state_file(array: str) -> str:
    """Return the file that says, and takes, the state of an array: `array_state`."""
    return f"{BLOCKS}/{array}/md/array_state"


def container_of(version: str) -> str:
    """Return the name of the container that an array is a member of, by its `metadata_version`.

    That is ``external:/md127/0``, or with a dash in place of the slash where the monitor is to keep
    away from it for a while: Documentation/admin-guide/md.rst. The container's own is
    ``external:imsm``.
    """
    rest = version.removeprefix(EXTERNAL)
    return rest[1:].partition("/")[0] if rest != version and rest[:1] in ("/", "-") else ""


def monitored(kernel: Kernel, container: str = "") -> tuple[str, ...]:
    """Return the kernel names of all arrays that have, or should have, a monitor; or of those in
    one container alone."""
    found = []
    for name in kernel.listdir(BLOCKS):
        try:
            version = text(kernel, f"{BLOCKS}/{name}/md/metadata_version")
        except OSError:
            continue  # no array, or it has just gone
        if container_of(version) and container in ("", container_of(version)):
            found.append(name)
    return tuple(found)


def watches(kernel: Kernel, pid: int, arrays: tuple[str, ...]) -> bool:
    """Whether root runs a process that has the `array_state` of any of some arrays open."""
    if not arrays:
        return False
    ends = tuple(f"/block/{array}/md/array_state" for array in arrays)
    try:
        for number in kernel.listdir(f"/proc/{pid}/fd"):
            if kernel.readlink(f"/proc/{pid}/fd/{number}").endswith(ends):
                return kernel.stat(f"/proc/{pid}").owner == 0
    except OSError:
        return False  # it has just ended
    return False


def is_kept(kernel: Kernel, array: str) -> bool:
    """Whether an array has a monitor."""
    pids = (int(name) for name in kernel.listdir("/proc") if name.isdigit())
    return any(watches(kernel, pid, (array,)) for pid in pids)


def is_there(kernel: Kernel, array: str) -> bool:
    """Whether an array has not been stopped yet."""
    try:
        return text(kernel, state_file(array)) != "clear"
    except OSError as error:
        if error.errno != ENOENT:
            raise
        return False


def become_clean(kernel: Kernel, array: str) -> None:
    """Have the kernel take an array for clean, and so its monitor note that. EBUSY if something is
    being written to it.

    By itself the kernel would wait for what `safe_mode_delay` says: set_in_sync() in md.c.
    """
    until = kernel.now() + CLEAN_SECONDS
    while text(kernel, state_file(array)) in DIRTY:
        try:
            kernel.write(state_file(array), b"clean")
        except OSError as error:
            if error.errno != EBUSY or kernel.now() >= until:
                raise
            kernel.sleep(TICK)
