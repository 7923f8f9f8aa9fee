"""How a verb refuses: one line that says what was wrong and what to do."""

from __future__ import annotations


class RefusalError(Exception):
    """`message` says what cannot be done and why, `remedy` what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
