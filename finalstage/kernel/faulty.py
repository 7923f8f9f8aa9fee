"""Faults on purpose: a kernel whose N-th call kills the stage, fails, or never comes back.

For tests, and only with ``finalstage.test`` on the kernel's command line or FINALSTAGE_TEST=1 in
the environment. Then ``finalstage.fault=ACTION@POINT`` or FINALSTAGE_FAULT says what goes wrong:

ACTION  kill (SIGKILL to ourselves), segv, exit, memory (MemoryError), raise (RuntimeError),
        fail (OSError, EIO), hang; or show, which only says each point on the console
POINT   a number N: the N-th call that acts, but does more than tune the kernel; a method;
        method:object; phase:NAME; several with +
,once   behind it: not in the second attempt
"""

from __future__ import annotations

import _thread
import posix
import time
from errno import EIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from finalstage.kernel import Kernel

ACTING = frozenset(
    (
        "clear_keyrings", "clear_nbd", "create", "detach_loop", "dm_clear", "dm_load_error",
        "dm_message", "dm_remove", "dm_resume", "dm_suspend", "flush", "freeze", "thaw", "kill",
        "lock_memory", "make_mutable", "mount_api", "mount_device", "move_mount", "overwrite_file",
        "pci_hide", "reboot", "remount", "remove_encryption_key", "replace_file", "reset_scsi",
        "revoke_key", "run_hooks", "run_moment", "scrub_memory", "stop_array", "swapoff", "sync",
        "syncfs", "umount", "write", "write_device",
    )
)  # fmt: skip
"""The methods that change something. Those that only look are no points of their own."""

KNOBS = ("/proc/sys/", "/sys/kernel/")
SCORE = "/oom_score_adj"
"""Writes to what only tunes the kernel have no number: there are hundreds, one for each slab, one
for each process."""

SIGSEGV, SIGKILL = 11, 9


class Fault:
    """What goes wrong, and where."""

    def __init__(self, text: str) -> None:
        text, _, option = text.partition(",")
        self.action, _, point = text.partition("@")
        self.point = point
        self.number = int(point) if point.isascii() and point.isdigit() else 0
        self.once = option == "once"
        if self.action not in ACTIONS or option not in ("", "once"):
            raise ValueError(f"cannot do the fault {text!r}")

    def is_here(self, number: int, name: str, thing: str) -> bool:
        """Whether this call, the `number`-th that acts, is the point."""
        if self.number:
            return self.number == number
        return any(point in (name, f"{name}:{thing}") for point in self.point.split("+"))


def wrap(kernel: Kernel, environment: Mapping[str, str]) -> Kernel:
    """Return the kernel itself, or, if a fault was asked for, one in which it happens."""
    try:
        options = kernel.read("/proc/cmdline").decode("utf-8", "replace").split()
    except OSError:
        options = []
    if "finalstage.test" not in options and environment.get("FINALSTAGE_TEST") != "1":
        return kernel
    asked = [option.partition("=")[2] for option in options if option[:17] == "finalstage.fault="]
    text = environment.get("FINALSTAGE_FAULT", asked[0] if asked else "")
    if not text:
        return kernel
    try:
        fault = Fault(text)
    except ValueError as error:
        kernel.console(f"finalstage: {error}\n".encode())
        return kernel
    if fault.once and environment.get("FINALSTAGE_ATTEMPT", "1") != "1":
        return kernel
    faulty: Any = FaultyKernel(kernel, fault)
    return faulty  # type: ignore[no-any-return]


class FaultyKernel:
    """A kernel with a fault. Everything else goes to the one behind it."""

    def __init__(self, kernel: Kernel, fault: Fault) -> None:
        self._kernel = kernel
        self._fault = fault
        self._lock = _thread.allocate_lock()
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._kernel, name)
        if name not in ACTING:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            thing = str(arguments[0]) if arguments else ""
            number = 0
            if not (thing.startswith(KNOBS) or thing.endswith(SCORE)):
                with self._lock:
                    self._count += 1
                    number = self._count
            self._pass(number, name, thing)
            return real(*arguments, **options)

        return call

    def tell_guardian(self, line: str) -> None:
        """Tell it; the beginning of a phase is a point, ``phase:NAME``."""
        self._kernel.tell_guardian(line)
        word, _, name = line.partition(" ")
        if word == "phase":
            self._pass(-1, word, name)

    def _pass(self, number: int, name: str, thing: str) -> None:
        if self._fault.action == "show":
            ACTIONS["show"](self._kernel, f"point {number} {name}:{thing}")
        elif self._fault.is_here(number, name, thing):
            self._kernel.console(f"finalstage: {self._fault.action} at {name}:{thing}\n".encode())
            ACTIONS[self._fault.action](self._kernel, thing)


def _show(kernel: Kernel, words: str) -> None:
    kernel.console(f"finalstage: {words}\n".encode())


def _kill(kernel: Kernel, thing: str) -> None:
    posix.kill(posix.getpid(), SIGKILL)


def _segv(kernel: Kernel, thing: str) -> None:
    posix.kill(posix.getpid(), SIGSEGV)


def _exit(kernel: Kernel, thing: str) -> NoReturn:
    posix._exit(3)


def _memory(kernel: Kernel, thing: str) -> NoReturn:
    raise MemoryError


def _raise(kernel: Kernel, thing: str) -> NoReturn:
    raise RuntimeError("a fault on purpose")


def _fail(kernel: Kernel, thing: str) -> NoReturn:
    raise OSError(EIO, posix.strerror(EIO), thing)


def _hang(kernel: Kernel, thing: str) -> NoReturn:
    while True:
        time.sleep(3600)


ACTIONS: dict[str, Callable[[Kernel, str], None]] = {
    "show": _show,
    "kill": _kill,
    "segv": _segv,
    "exit": _exit,
    "memory": _memory,
    "raise": _raise,
    "fail": _fail,
    "hang": _hang,
}
