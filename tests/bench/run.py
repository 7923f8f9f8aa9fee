"""One machine going down, with what there is to measure."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.contestants import Contestant
from tests.bench.stacks import SLOW_MIB, Trial
from tests.vm.cache import BUILD
from tests.vm.hardware import MIB
from tests.vm.machine import Machine
from tests.vm.rows import STAGING
from tests.vm.stacks import rooted
from tests.vm.standing import Tray, saved, standing

Record = dict[str, Any]

DEADLINE = 300
IN_LOG = rb"(?<=[\0?])"
"""What stands before a line of the kernel's log in RAM, and not before a copy that somebody has
made of it: the last byte of a number, struct prb_data_block in kernel/printk/printk_ringbuffer.c.
"""

RECORD = IN_LOG + rb'finalstage: \{"at": (?:[ -~]*\}|[ -~]*)'
"""The second form is that of a record which was too long and is cut off."""

PEAK = re.compile(rb'"peak_kib": (\d+)')
NO_DM_CRYPT = "rmmod dm_crypt"
"""All guests have it loaded; where nothing is encrypted, finalstage would overwrite free memory for
its sake alone."""


@dataclass(frozen=True)
class Measured:
    """How long it took until power went, and until the first line stood on the console, in seconds.

    `found` is what was looked for in the machine's RAM, in order: what finalstage has left in the
    kernel's log, if nothing else.
    """

    seconds: float
    first_line: float
    console: str
    found: tuple[bytes, ...] = ()

    @property
    def offset(self) -> float:
        """Seconds from exec to when finalstage's own clock began: by the first line, which names
        the time that it is said at. 0 if that was not finalstage's."""
        first = self.console.lstrip().partition("\n")[0]
        said = re.match(r"finalstage \[ *([\d.]+)\]", first)
        return self.first_line - float(said[1]) if said else 0.0

    @property
    def peak_kib(self) -> int:
        """The most memory that finalstage had, as it says itself; 0 if it does not."""
        return max((int(kib) for text in self.found for kib in PEAK.findall(text)), default=0)

    @property
    def records(self) -> list[Record]:
        """The records of finalstage, in order."""
        return records(self.found)


class Ear:
    """Hears when the first words come after it was told to listen."""

    def __init__(self) -> None:
        self.began = 0.0
        self.first = 0.0
        self.spoken = asyncio.Event()

    def listen(self) -> float:
        """Begin, and return the time."""
        self.began = time.monotonic()
        return self.began

    def heard(self, piece: bytes) -> None:
        """Take in a piece of what comes from the console."""
        if self.began and not self.first and piece.strip():
            self.first = time.monotonic()
            self.spoken.set()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.first - self.began if self.first else 0.0


def measure(trial: Trial, contestant: Contestant, pattern: bytes = RECORD) -> Measured:
    """Let a contestant go down once. RuntimeError if it does not power off."""
    return asyncio.run(_measure(trial, contestant, re.compile(pattern)))


async def _measure(trial: Trial, contestant: Contestant, pattern: re.Pattern[bytes]) -> Measured:
    stack = trial.stack
    if contestant.root != stack.root:
        stack = rooted(stack, contestant.root)
    state = await saved(stack)
    tree = contestant.staged(trial)
    ear = Ear()
    tray = Tray({"tree": tree} if tree else {}, {})
    with tempfile.TemporaryDirectory(dir=BUILD.parent) as folder:
        async with standing(stack, state, tray, Path(folder), ear.heard, mapped=True) as started:
            machine = started.machine
            if tree:
                await machine.run(STAGING)
            await machine.run("rm -rf /run/tray; sync")
            if not trial.encrypted:
                await machine.run(NO_DM_CRYPT)
            await _slow_down(machine, trial.slow)
            await machine.run(f"{trial.before}\n{contestant.before}")
            begin = ear.listen()
            await machine.become(contestant.path.format(verb="poweroff"))
            seconds = time.monotonic() - begin
            end = await machine.end(DEADLINE)
            seconds += end.seconds
            if end.kind != "poweroff":
                said = machine.console[-2000:].decode(errors="replace")
                raise RuntimeError(f"{trial.name}, {contestant.name}: {end.kind}\n{said}")
            wanted = contestant.is_ours or pattern.pattern != RECORD
            memory = b"".join(machine.memory()) if wanted else b""
            found = tuple(match[0] for match in pattern.finditer(memory))
    console = machine.console.decode(errors="replace")
    return Measured(seconds, ear.seconds, console, found)


async def _slow_down(machine: Machine, disks: Iterable[str]) -> None:
    for disk in disks:
        await machine.qmp(
            "qom-set",
            path=f"/objects/throttle-{disk}",
            property="limits",
            value={"bps-write": SLOW_MIB * MIB},
        )


def records(found: Iterable[bytes]) -> list[Record]:
    """The records among what was found, by their time; each once."""
    read: dict[bytes, Record] = {}
    for text in found:
        match = re.fullmatch(rb"finalstage: (\{.*\})", text, re.DOTALL)
        if match:
            try:
                read[match[1]] = json.loads(match[1])
            except ValueError:
                continue  # half overwritten by a newer one
    return sorted(read.values(), key=lambda record: float(record["at"]))
