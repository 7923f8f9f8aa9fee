"""Calls that may never return, on real threads."""

from __future__ import annotations

import _thread
from time import monotonic, sleep

from finalstage.kernel.calls import Calls


def held() -> _thread.LockType:
    """Return a lock that is taken: acquiring it hangs until it is released."""
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def test_result_and_error() -> None:
    calls = Calls()
    good = calls.start("good", lambda: 42)
    bad = calls.start("bad", lambda: 1 / 0)
    while not (good.done and bad.done):
        calls.wait([call for call in (good, bad) if not call.done], 10)
    assert good.value == 42 and good.error is None
    assert isinstance(bad.error, ZeroDivisionError)
    assert good.finished >= good.started


def test_a_call_that_hangs_does_not_hold_up_others() -> None:
    calls = Calls(ready=1)
    locks = [held() for _ in range(20)]
    hanging = [calls.start("hangs", lock.acquire) for lock in locks]
    quick = calls.start("quick", lambda: "done")
    assert calls.wait([quick], 10) == [quick]
    assert calls.wait(hanging, 0.01) == []
    locks[7].release()
    assert calls.wait(hanging, 10) == [hanging[7]]
    for lock in locks:
        if lock.locked():
            lock.release()


def test_what_was_left_behind_may_still_come_back() -> None:
    calls = Calls()
    lock = held()
    late = calls.start("late", lock.acquire)
    assert calls.wait([late], 0.01) == []
    lock.release()
    assert calls.wait([late], 10) == [late]


def test_a_call_that_waits_for_one_of_its_own_hears_of_it_at_once() -> None:
    """Though somebody waits for it meanwhile, and could hear of the other one in its place."""
    calls = Calls()

    def outer() -> float:
        started = monotonic()
        calls.wait((calls.start("inner", lambda: sleep(0.1)),), 5.0)
        return monotonic() - started

    for _ in range(10):
        call = calls.start("outer", outer)
        calls.wait((call,), 5.0)
        assert isinstance(call.value, float)
        assert call.value < 1.0
