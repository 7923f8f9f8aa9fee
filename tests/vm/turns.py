"""Turns: one machine more is at work at once than there are processors; others wait.

Each waits for something at times, and most have one processor only.

A machine that goes down while something of it hangs is idle nearly all of that time, and goes on
without a turn. So many more rows than there are processors can be on their way.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import TextIO

from tests.vm.cache import BUILD

_LOOK_AGAIN = 0.02  # seconds


class Turn:
    """The right to keep a processor busy, as `async with Turn() as turn:`.

    It is a lock of the kernel's, so that it goes back by itself when its process dies.
    """

    def __init__(self) -> None:
        self._held: TextIO | None = None

    async def __aenter__(self) -> Turn:
        await self.take()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.give_back()

    async def take(self) -> None:
        """Wait until no more machines are at work than there are processors."""
        BUILD.mkdir(parents=True, exist_ok=True)
        places = [BUILD / f"turn-{number}.lock" for number in range((os.cpu_count() or 1) + 1)]
        while not self._held:
            for place in places:
                file = place.open("w")
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.close()
                else:
                    self._held = file
                    return
            await asyncio.sleep(_LOOK_AGAIN)

    def give_back(self) -> None:
        """Let another machine work. To do so twice is harmless."""
        if self._held:
            self._held.close()
            self._held = None
