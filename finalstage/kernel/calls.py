"""Calls that may never return, each on a thread of its own while it lasts.

A thread that hangs in the kernel (state D) cannot be killed, but holds nothing that the others
need: cffi and posix release the interpreter lock around every system call. So a hung call is simply
left behind, and a fresh thread takes its place. `_thread` and `_queue` are what `threading` and
`queue` are made of, without their import time.
"""

from __future__ import annotations

import _thread
from _queue import SimpleQueue
from time import monotonic

from finalstage.kernel import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STACK = 64 * 1024
"""Bytes of stack a thread. All of it is locked memory, so the default of 8 MiB would not do."""

MOST_THREADS = 256
"""Where new threads stop; beyond this a call waits for another to return."""


class Calls:
    """Starts calls and says which are done. A call may itself start others, and wait for them."""

    def __init__(self, ready: int = 0) -> None:
        """Start `ready` threads at once, so that later none has to be made in a hurry."""
        _thread.stack_size(STACK)
        self._jobs: SimpleQueue[tuple[Call, Callable[[], object]]] = SimpleQueue()
        self._threads = 0
        self._running: set[Call] = set()
        # One for each that waits: a lock that is held until some call has ended.
        self._bells: set[_thread.LockType] = set()
        for _ in range(ready):
            self._add_thread()

    def start(self, name: str, function: Callable[[], object]) -> Call:
        """Run `function` on a thread; the returned call says when and how it ended."""
        call = Call(name)
        call.started = monotonic()
        self._running.add(call)
        if len(self._running) > self._threads:
            self._add_thread()
        self._jobs.put((call, function))
        return call

    def wait(self, calls: Iterable[Call], timeout: float) -> list[Call]:
        """Wait until one of `calls` is done, or `timeout` seconds; return those that are."""
        waiting_for = list(calls)
        until = monotonic() + timeout
        bell = _thread.allocate_lock()
        bell.acquire()
        self._bells.add(bell)  # before looking: what ends meanwhile rings it
        try:
            while True:
                left = until - monotonic()
                done = [call for call in waiting_for if call.done]
                if done or left <= 0:
                    return done
                bell.acquire(True, left)
        finally:
            self._bells.discard(bell)

    def _ring(self) -> None:
        """Have all that wait look again."""
        for bell in tuple(self._bells):
            try:
                bell.release()
            except RuntimeError:
                continue  # it has been rung, and not been heard yet

    def _add_thread(self) -> None:
        if self._threads < MOST_THREADS:
            _thread.start_new_thread(self._work, ())
            self._threads += 1

    def _work(self) -> None:
        while True:
            call, function = self._jobs.get()
            try:
                call.value = function()
            except BaseException as error:  # whatever it was, the one who waits must hear of it
                call.error = error
            call.finished = monotonic()
            call.done = True
            self._running.discard(call)
            self._ring()
