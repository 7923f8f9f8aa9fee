"""The line to the guardian: the small C program, PID 1 mostly, that watches over the stage.

It seals and goes down by itself if the stage dies, falls silent or is late. It also feeds the
hardware's watchdog while it hears from us. The other end: finalstage/launcher/channel.c.
"""

from __future__ import annotations

import posix
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "FINALSTAGE_GUARDIAN"
LONGEST_LINE = 64
"""Bytes, the newline among them: less than PIPE_BUF, so a line arrives whole or not at all."""

HEARTBEAT = 1.0
"""Seconds between two signs of life. The guardian takes some seconds without one for a hang."""


class Guardian:
    """Tells the guardian what it should know. Says nothing if there is none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._pipe = -1
        self._told_alive = float("-inf")
        number = environment.get(VARIABLE, "")
        if number.isascii() and number.isdigit():
            try:
                posix.set_inheritable(int(number), False)
                posix.set_blocking(int(number), False)
                self._pipe = int(number)
            except (OSError, OverflowError):
                pass

    def tell(self, line: str) -> None:
        """Send one line. Never raises and never blocks; what the pipe does not take is lost.

        ``verb WORD``: how to go down. ``deadline SECONDS``: when, on the monotonic clock, the
        stage wants to be down. ``phase NAME``: what begins now. ``alive``: the stage goes on.
        ``sealed``: all keys are gone, and devices may be suspended.
        """
        if self._pipe >= 0:
            try:
                posix.write(self._pipe, line.encode("ascii", "replace")[: LONGEST_LINE - 1] + b"\n")
            except OSError:
                return

    def alive(self) -> None:
        """Give a sign of life, if the last one is some time ago."""
        now = monotonic()
        if now - self._told_alive >= HEARTBEAT / 2:
            self._told_alive = now
            self.tell("alive")
