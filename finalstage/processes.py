"""Processes: who is there, who must go, who may stay.

Source: proc(5), Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

from errno import ESRCH

from finalstage.bounded import bounded
from finalstage.monitors import monitored, watches
from finalstage.value import Value
from finalstage.world import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Kernel

SIGHUP, SIGKILL, SIGTERM, SIGCONT, SIGSTOP = 1, 9, 15, 18, 19
KTHREADD = 2
EVERYONE = -1
"""For kill(2): all but the first process and the caller's own."""

PF_KTHREAD = 0x00200000
"""Flag of a kernel thread in /proc/PID/stat: include/linux/sched.h."""

FIRST_LOOK, SLOWEST_LOOK = 0.005, 0.05

LOOK_SECONDS = 2.0
FOREVER = float("inf")

SLEEPER_SECONDS = 2.0
"""How long processes get that sleep in the kernel."""

FORKING_SECONDS = 1.0
"""For how long there may be new ones whenever we look, until all are made to stand still."""


class Process(Value):
    """A process: its state is one letter, as ps shows it. `on_terminal` is whether it has one."""

    pid: int
    parent: int
    name: str
    state: str
    kernel_thread: bool
    on_terminal: bool = False

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
        on_terminal=fields[4] != "0",
    )


def all_processes(kernel: Kernel) -> list[Process]:
    """Return every process, but the kernel's threads, that is still there when it is looked at."""
    found = []
    by_kernel = _started_by_kernel(kernel)
    for name in kernel.listdir("/proc"):
        if not name.isdigit() or (name in by_kernel and _has_no_program(kernel, name)):
            continue
        try:
            process = read_process(kernel, int(name))
        except (OSError, ValueError, IndexError):
            continue  # it has just ended
        if not process.kernel_thread:
            found.append(process)
    return found


def _started_by_kernel(kernel: Kernel) -> frozenset[str]:
    """Return the numbers of the kernel's threads and of the programs that it has started, as far as
    it tells: proc(5), /proc/PID/task/TID/children. Each ext4 has two threads, each device one."""
    try:
        if read_process(kernel, KTHREADD).kernel_thread:
            return frozenset(text(kernel, f"/proc/{KTHREADD}/task/{KTHREADD}/children").split())
    except (OSError, ValueError, IndexError):
        pass  # a kernel that does not tell, or processes of which one sees only some
    return frozenset()


def _has_no_program(kernel: Kernel, pid: str) -> bool:
    """Whether what the kernel has started is a thread. `stat` would take three times as long."""
    try:
        return not kernel.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return True
    except OSError:
        return False  # it has one, which cannot be seen


def peak_kib(kernel: Kernel) -> int:
    """Return the most memory that this process ever had, in KiB; 0 if /proc does not say."""
    try:
        for line in text(kernel, "/proc/self/status").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return 0


class Population:
    """The processes that must go, looked at again and again. `seen` are the numbers of all of them
    so far."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._daemons: dict[int, bool] = {}
        self._monitored: tuple[str, ...] | None = None
        self._asked = 0
        self.seen: set[int] = set()

    def to_end(self) -> list[Process]:
        """Return those that must go: not kernel threads, zombies, storage daemons, PID 1,
        ourselves, nor those who wait for us: an init script that is killed lets init go on beside
        us.

        Reading a command line waits for whoever changes that process's memory map, and so can
        hang behind one that sleeps in the kernel. Such a process is no storage daemon any more.
        """
        found: list[Process] = []
        while bounded(
            self._kernel, "processes", lambda: found.extend(self._look()), LOOK_SECONDS, FOREVER
        ):
            if self._asked in self._daemons:
                return found
            self._daemons[self._asked] = False
        return found

    def _look(self) -> list[Process]:
        processes = all_processes(self._kernel)
        parents = {process.pid: process.parent for process in processes}
        ours = {1}
        pid = self._kernel.pid
        while pid not in ours and pid:
            ours.add(pid)
            pid = parents.get(pid, 0)
        found = [
            process
            for process in processes
            if process.state != "Z"
            and process.pid not in ours
            and not self.is_storage_daemon(process.pid)
        ]
        self.seen.update(process.pid for process in found)
        return found

    def is_storage_daemon(self, pid: int) -> bool:
        """Whether root marked it as one that storage needs to the end: argv[0] begins with @. One
        that keeps arrays is that without a mark.

        Source: systemd, "Storage Daemons for the Root File System".
        """
        if pid not in self._daemons:
            self._asked = pid
            try:
                marked = self._kernel.read(f"/proc/{pid}/cmdline").startswith(b"@")
                by_root = marked and self._kernel.stat(f"/proc/{pid}").owner == 0
            except OSError:
                return False  # it has just ended
            self._daemons[pid] = by_root or watches(self._kernel, pid, self._arrays())
        return self._daemons[pid]

    def _arrays(self) -> tuple[str, ...]:
        if self._monitored is None:
            self._monitored = ()
            try:
                self._monitored = monitored(self._kernel)
            except OSError:
                pass  # without /sys nobody could watch them either
        return self._monitored


def end_all(
    kernel: Kernel, term_until: float, kill_until: float, say: Callable[[str], None]
) -> tuple[list[Process], bool]:
    """Ask all to end, then make them; return those that are there even so, and whether there was
    anybody to ask."""
    population = Population(kernel)
    remaining = _signal_until_gone(kernel, population, SIGTERM, term_until)
    if remaining:
        say(f"killing what does not end by itself: {names(remaining)}")
        remaining = _signal_until_gone(kernel, population, SIGKILL, kill_until)
    return remaining, bool(population.seen)


def names(processes: list[Process], most: int = 5) -> str:
    """Return a list of processes that fits on a line."""
    shown = ", ".join(process.title for process in processes[:most])
    more = len(processes) - most
    return f"{shown} and {more} more" if more > 0 else shown


def _signal_until_gone(
    kernel: Kernel, population: Population, signal: int, until: float
) -> list[Process]:
    """Signal everyone, and everyone new, until all are gone or the time is up.

    SIGTERM is sent once to each, and SIGCONT after it, since a stopped process ends only when it
    runs; SIGHUP too where it has a terminal, since a shell there heeds nothing else. SIGKILL goes
    out on every look. What forks without end may be faster than we are; then everyone has to stand
    still meanwhile. Not sooner, since a stop ends the system calls of those that must stay, and
    that of nbd-client is its connection. Those that sleep in the kernel (state D) are not waited
    for as long: they cannot end before what they wait for has come.
    """
    sleeping_until = kernel.now() + SLEEPER_SECONDS
    forking_until = kernel.now() + FORKING_SECONDS
    signalled: set[int] = set()
    pause = FIRST_LOOK
    while True:
        forking = signal == SIGKILL and kernel.now() >= forking_until
        if forking:
            _send(kernel, EVERYONE, SIGSTOP)
        remaining = population.to_end()
        new = not signalled.issuperset(process.pid for process in remaining)
        for process in remaining:
            if signal == SIGKILL or process.pid not in signalled:
                signalled.add(process.pid)
                _send(kernel, process.pid, signal)
                if signal == SIGTERM:
                    _send(kernel, process.pid, SIGCONT)
                if signal == SIGTERM and process.on_terminal:
                    _send(kernel, process.pid, SIGHUP)
        if forking:
            _send(kernel, EVERYONE, SIGCONT)
        now = kernel.now()
        if not new:
            forking_until = now + FORKING_SECONDS
        sleep = all(process.state == "D" for process in remaining)
        if not remaining or now >= until or (sleep and now >= sleeping_until):
            return remaining
        kernel.sleep(pause)
        pause = min(2 * pause, SLOWEST_LOOK)


def _send(kernel: Kernel, pid: int, signal: int) -> None:
    try:
        kernel.kill(pid, signal)
    except OSError as error:
        if error.errno != ESRCH:
            raise
