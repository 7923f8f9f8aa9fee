"""Processes of the simulated kernel: what /proc shows of them, and signals."""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Callable
from typing import TYPE_CHECKING

from finalstage.kernel import Stat
from tests.sim.faults import error

if TYPE_CHECKING:
    from tests.sim.machine import Machine, Process

EVERYONE = -1
PF_KTHREAD = 0x00200000


class Processes:
    """Part of `SimKernel`: the processes of its machine."""

    machine: Machine
    _enter: Callable[..., None]

    def process_text(self, path: str) -> str | None:
        """Return a file of a process; None if the path is not of one."""
        parts = path.split("/")
        if parts[1] != "proc" or not parts[2].isdigit():
            return None
        process = self._process(int(parts[2]), errno.ESRCH)
        name = "/".join(parts[3:])
        if name == f"task/{process.pid}/children":
            children = (x for x in self.machine.processes.values() if x.parent == process.pid)
            return "".join(f"{child.pid} " for child in children) + "\n"
        if name == "stat":
            flags = PF_KTHREAD if process.kernel_thread else 0
            ids = f"{process.state} {process.parent} 0 0 {process.terminal} 0 {flags} 0"
            return f"{process.pid} ({process.name}) {ids}\n"
        if name == "cmdline":
            return process.argv0 + "\0"
        if name == "mountinfo":
            return "".join(f"{mount.line()}\n" for mount in self.machine.mounts)
        if name == "comm":
            return f"{process.name}\n"
        return {"maps": "", "oom_score_adj": f"{process.oom_score_adj}\n"}.get(name)

    def write_process(self, path: str, data: bytes) -> bool:
        """Take what is written to a file of a process; return whether it is one."""
        parts = path.split("/")
        if parts[1] != "proc" or parts[-1] != "oom_score_adj":
            return False
        self._process(int(parts[2]), errno.ENOENT).oom_score_adj = int(data)
        return True

    def process_names(self, path: str) -> list[str] | None:
        """List /proc, or the open files of a process."""
        parts = path.split("/")
        if path == "/proc":
            return ["self", *map(str, self.machine.processes)]
        if path.startswith("/proc/") and parts[3:] == ["fd"]:
            process = self._process(int(parts[2]), errno.ENOENT)
            return [str(number) for number in range(len(process.holds + process.files))]
        return None

    def process_link(self, path: str) -> str | None:
        """Return what a file is called that a process has open."""
        parts = path.split("/")
        if parts[1] == "proc" and parts[3:] == ["exe"]:
            process = self._process(int(parts[2]), errno.ENOENT)
            if process.kernel_thread or process.state == "Z":
                raise error(errno.ENOENT, path)
            return "/somewhere"
        if parts[1] != "proc" or parts[3:4] != ["fd"]:
            return None
        process, number = self._process(int(parts[2]), errno.ENOENT), int(parts[4])
        return (("/somewhere",) * len(process.holds) + process.files)[number]

    def process_stat(self, path: str) -> Stat | None:
        """Describe the directory of a process, or a file that it has open."""
        parts = path.split("/")
        if parts[1] != "proc":
            return None
        process = self._process(int(parts[2]), errno.ENOENT)
        lies_on = process.exe
        if parts[3:4] == ["fd"]:
            lies_on = (process.holds + ("0:32",) * len(process.files))[int(parts[4])]
        return Stat(modes.S_IFREG, lies_on, 1, "0:0", 0)

    def _process(self, pid: int, otherwise: int) -> Process:
        process = self.machine.processes.get(pid)
        if process is None:
            raise error(otherwise, str(pid))
        return process

    def kill(self, pid: int, signal: int) -> None:
        self._enter("kill", str(pid), 0.0)
        if pid == EVERYONE:
            return
        process = self._process(pid, errno.ESRCH)
        if process.ends_by(signal, self.machine):
            del self.machine.processes[pid]
            process.ended(self)  # type: ignore[arg-type]
