"""How a verb refuses: one line that says what was wrong and what to do."""

from __future__ import annotations

DONE, FAILED, NOT_UNDERSTOOD, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: all was done; it was refused, or failed; what was asked for makes no sense, and
nothing was done; somebody has pressed Ctrl-C."""


class RefusalError(Exception):
    """`message` says what cannot be done and why, `remedy` what to do about it."""

    status = FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)


class TargetError(RefusalError):
    """A target is none."""

    status = NOT_UNDERSTOOD
