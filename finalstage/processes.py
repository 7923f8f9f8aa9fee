"""Processes: who is there, who must go, who may stay.

Source: proc(5), Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

from errno import ESRCH

from finalstage.value import Value
from finalstage.world import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Kernel

SIGKILL, SIGTERM, SIGCONT = 9, 15, 18
PF_KTHREAD = 0x00200000
"""Flag of a kernel thread in /proc/PID/stat: include/linux/sched.h."""

FIRST_LOOK, SLOWEST_LOOK = 0.005, 0.05


class Process(Value):
    """A process: its state is one letter, as ps shows it."""

    pid: int
    parent: int
    name: str
    state: str
    kernel_thread: bool

    @property
    def title(self) -> str:
        """Its name and number, as they stand in messages."""
        return f"{self.name}[{self.pid}]"


def read_process(kernel: Kernel, pid: int) -> Process:
    """Read /proc/PID/stat. The name stands in brackets and may itself hold any character."""
    front, _, back = text(kernel, f"/proc/{pid}/stat").rpartition(")")
    fields = back.split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        name=front.partition("(")[2],
        state=fields[0],
        kernel_thread=bool(int(fields[6]) & PF_KTHREAD),
    )


def all_processes(kernel: Kernel) -> list[Process]:
    """Return every process that is still there when it is looked at."""
    found = []
    for name in kernel.listdir("/proc"):
        if name.isdigit():
            try:
                found.append(read_process(kernel, int(name)))
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
    return found


def is_storage_daemon(kernel: Kernel, pid: int) -> bool:
    """Whether root marked a process as one that storage needs to the end: argv[0] begins with @.

    Source: systemd, "Storage Daemons for the Root File System".
    """
    try:
        return (
            kernel.read(f"/proc/{pid}/cmdline").startswith(b"@")
            and kernel.stat(f"/proc/{pid}").owner == 0
        )
    except OSError:
        return False


def to_end(kernel: Kernel) -> list[Process]:
    """Return those that must go: not kernel threads, zombies, storage daemons, PID 1, ourselves,
    nor those who wait for us: an init script that is killed lets init go on beside us."""
    processes = all_processes(kernel)
    parents = {process.pid: process.parent for process in processes}
    ours = {1}
    pid = kernel.pid
    while pid not in ours and pid:
        ours.add(pid)
        pid = parents.get(pid, 0)
    return [
        process
        for process in processes
        if not process.kernel_thread
        and process.state != "Z"
        and process.pid not in ours
        and not is_storage_daemon(kernel, process.pid)
    ]


def end_all(
    kernel: Kernel, term_until: float, kill_until: float, say: Callable[[str], None]
) -> list[Process]:
    """Ask all to end, then make them; return those that are there even so."""
    remaining = _signal_until_gone(kernel, SIGTERM, term_until)
    if remaining:
        say(f"killing what does not end by itself: {names(remaining)}")
        remaining = _signal_until_gone(kernel, SIGKILL, kill_until)
    return remaining


def names(processes: list[Process], most: int = 5) -> str:
    """Return a list of processes that fits on a line."""
    shown = ", ".join(process.title for process in processes[:most])
    more = len(processes) - most
    return f"{shown} and {more} more" if more > 0 else shown


def _signal_until_gone(kernel: Kernel, signal: int, until: float) -> list[Process]:
    """Signal everyone, and everyone new, until all are gone or the time is up.

    SIGTERM is sent once to each, and SIGCONT after it, since a stopped process ends only when it
    runs. SIGKILL goes out on every look.
    """
    signalled: set[int] = set()
    pause = FIRST_LOOK
    while True:
        remaining = to_end(kernel)
        for process in remaining:
            if signal == SIGKILL or process.pid not in signalled:
                signalled.add(process.pid)
                _send(kernel, process.pid, signal)
                if signal == SIGTERM:
                    _send(kernel, process.pid, SIGCONT)
        if not remaining or kernel.now() >= until:
            return remaining
        kernel.sleep(pause)
        pause = min(2 * pause, SLOWEST_LOOK)


def _send(kernel: Kernel, pid: int, signal: int) -> None:
    try:
        kernel.kill(pid, signal)
    except OSError as error:
        if error.errno != ESRCH:
            raise
