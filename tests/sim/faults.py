"""What can go wrong in the simulated kernel, and how it says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar


class Hang:
    """The fault that a call never comes back."""

    def __repr__(self) -> str:
        return "HANG"  # the same in every process that collects tests

    def __reduce__(self) -> str:
        return "HANG"  # there is only one


HANG = Hang()


class HangError(BaseException):
    """The call never comes back: from now on, until the kernel takes up another one, nothing that
    it does has an effect, not even what stands in its ``finally``."""

    hanging: ClassVar[HangError | None] = None

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        HangError.hanging = self


class BlockedError(HangError):
    """The call does not come back until something below `device` lets go of its I/O. Then it goes
    on with `rest`, or is tried again as a whole.

    Meanwhile it has the device open, if `opens`; or it is about to suspend it, and waits only for
    what is below it, if `suspends`.
    """

    def __init__(
        self,
        device: str = "",
        *,
        opens: bool = False,
        suspends: bool = False,
        rest: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(device)
        self.device = device
        self.opens = opens
        self.suspends = suspends
        self.rest = rest


def error(code: int, name: str) -> OSError:
    """Return the kernel's error."""
    return OSError(code, os.strerror(code), name)
