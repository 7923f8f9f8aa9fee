"""Calls that are bounded in time."""

from __future__ import annotations

from finalstage.bounded import bounded, together
from tests.sim.kernel import HangError, SimKernel
from tests.sim.machine import Machine


def hang() -> None:
    """Never come back."""
    raise HangError


def fail() -> None:
    """Fail as the kernel does."""
    raise OSError(16, "Device or resource busy")


def test_all_get_the_same_time_together() -> None:
    kernel = SimKernel(Machine())
    errors = together(kernel, {"a": hang, "b": hang, "c": fail, "d": lambda: 1}, 3, 100)
    assert errors == {"a": "no answer in 3 s", "b": "no answer in 3 s", "c": "busy", "d": ""}
    assert kernel.now() == 3


def test_not_past_the_end() -> None:
    kernel = SimKernel(Machine())
    assert bounded(kernel, "a", hang, 3, 1) == "no answer in 1 s"
    assert bounded(kernel, "b", hang, 3, 1) == "no answer in 0 s"
    assert kernel.now() == 1
