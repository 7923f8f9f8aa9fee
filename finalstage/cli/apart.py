"""Has a verb do its work in a process of its own, which can be left behind.

Whoever hangs in the kernel cannot be ended, nor can the process that it is a thread of: its parent
would wait for that as long as the thread hangs. So somebody has to be there who does not.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from finalstage.cli.errors import FAILED, INTERRUPTED

LOOK_SECONDS = 0.5
"""How often to look whether the other process has died without a word. Also the least time between
two orders to stop: who passes signals on may do so beside the terminal."""

LEAVE_SECONDS = 1.0
"""How long it may take to end when it was told twice."""

SHOW_CURSOR = "\r\033[?25h\033[K"
"""What a terminal is told: console_codes(4)."""

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def call(function: Callable[[], int]) -> int:
    """Return the exit status that a function returns which is called in a process of its own.

    What stops a program stops that one, which does as it sees fit. Told so a second time, it is
    left behind.
    """
    ours, theirs = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until somebody is there to heed them
    child = os.fork()
    if child == 0:
        heed_stops()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        os.close(ours)
        _work(function, theirs)
    os.close(theirs)
    watch = Watch(child, ours)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    return watch.status()


def heed_stops() -> None:
    """Have each order to stop raise KeyboardInterrupt; what comes twice at once is one: the
    terminal's own, and the same passed on."""
    heard = [float("-inf")]

    def hear(_number: int, _frame: object) -> None:
        now = time.monotonic()
        if now - heard[0] >= LOOK_SECONDS:
            heard[0] = now
            raise KeyboardInterrupt

    for each in STOPS:
        signal.signal(each, hear)


def _work(function: Callable[[], int], answer: int) -> NoReturn:
    """Call it, and say what it returned. Never returns: threads may hang, which nobody joins."""
    status = FAILED
    try:
        status = function()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):  # a thread that hangs keeps them open
            os.dup2(nowhere, stream)
        os.write(answer, bytes((status,)))
        os._exit(status)


class Watch:
    """Waits for the other process."""

    def __init__(self, child: int, answer: int) -> None:
        self.child = child
        self.answer = answer
        self.told: list[float] = []
        for each in STOPS:
            signal.signal(each, self.tell)

    def tell(self, number: int, _frame: object) -> None:
        """Pass on that it is to stop."""
        now = time.monotonic()
        if not self.told or now - self.told[-1] >= LOOK_SECONDS:
            self.told.append(now)
        os.kill(self.child, number)

    def status(self) -> int:
        """Return the status that it says, or in its place what became of it."""
        while not self.has_said(LOOK_SECONDS):
            if self.is_dead():
                break  # it may have said it just before
            if len(self.told) > 1 and time.monotonic() - self.told[1] > LEAVE_SECONDS:
                _say("interrupted; what hangs was left behind")
                return INTERRUPTED
        if not self.has_said(0):
            return self.died()
        said = os.read(self.answer, 1)
        return said[0] if said else self.died()

    def has_said(self, timeout: float) -> bool:
        """Whether there is something to read within so many seconds, be it the end."""
        return bool(select.select((self.answer,), (), (), timeout)[0])

    def is_dead(self) -> bool:
        """Whether it has ended, though one of its threads may hang."""
        try:
            with open(f"/proc/{self.child}/stat", "rb") as stream:
                return stream.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
        except OSError:
            return False  # no /proc; or it has just gone, and then there is nothing to read

    @staticmethod
    def died() -> int:
        """Say that it was killed."""
        _say("killed in the middle of it; what it has closed is closed, and it can be called again")
        return FAILED


def _say(words: str) -> None:
    """Say it in the place of who cannot any more, and may have hidden the terminal's cursor."""
    shown = SHOW_CURSOR if sys.stderr.isatty() else ""
    print(f"{shown}finalstage: {words}", file=sys.stderr)


def was_left_alone(parent: int) -> bool:
    """Whether nobody waits any more for the process that was started by `parent`."""
    return os.getppid() != parent
