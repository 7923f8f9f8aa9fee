"""Shows how far closing has got: a line that changes on a terminal, else one every few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from finalstage import progress
from finalstage.cli.close.selection import Selection
from finalstage.close import Outcome
from finalstage.kernel import Kernel
from finalstage.stack import Layer

EVERY = 0.25
"""Seconds between two pictures of it on a terminal."""


class Plain:
    """For a log: what is waited for, every few seconds, as the stage says it."""

    def started(self, layer: Layer) -> None:
        """Nothing: most take no time."""

    def ended(self, outcome: Outcome) -> None:
        """Nothing: what came of all stands in the end."""

    def say(self, words: str) -> None:
        """Say what is waited for."""
        print(f"finalstage: {words}", file=sys.stderr, flush=True)


class Line(Plain):
    """For a terminal: what is being closed, how much is left to write, what disks have to do."""

    def __init__(self, kernel: Kernel, chosen: Selection) -> None:
        self.kernel = kernel
        self.disks = [layer for layer in chosen.flushed if layer.is_disk]
        self.number = len(chosen.closing)
        self.ids = chosen.ids
        self.closed = 0
        self.began = kernel.now()
        self.running: dict[str, str] = {}

    def started(self, layer: Layer) -> None:
        what = "" if layer.id in self.ids else "flushing "
        self.running[layer.id] = what + layer.title

    def ended(self, outcome: Outcome) -> None:
        self.running.pop(outcome.layer.id, None)
        self.closed += outcome.error is None and outcome.layer.id in self.ids

    def say(self, words: str) -> None:
        """Nothing: the line shows it."""

    def __str__(self) -> str:
        now = next(iter(self.running.copy().values()), "looking again")
        more = f" and {len(self.running) - 1} more" if len(self.running) > 1 else ""
        left = progress.dirty_bytes(self.kernel) / (1 << 20)
        parts = [
            f"{self.closed}/{self.number} closed",
            f"{now}{more}",
            f"{left:.1f} MiB left to write",
            f"{self.kernel.now() - self.began:.0f} s",
        ]
        for disk in self.disks:
            if count := progress.in_flight(self.kernel, disk.device):
                parts.append(f"{disk.name}: {count} in flight")
        return "  ".join(parts)


@contextmanager
def audience(kernel: Kernel, chosen: Selection) -> Iterator[Plain]:
    """Show it while it lasts."""
    if not sys.stderr.isatty():
        yield Plain()
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    line = Line(kernel, chosen)
    with Live(
        get_renderable=lambda: Text(str(line), no_wrap=True, overflow="ellipsis"),
        console=Console(stderr=True),
        refresh_per_second=1 / EVERY,
        transient=True,
    ):
        yield line
