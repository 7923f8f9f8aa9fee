"""One machine going down, with what there is to measure."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.contestants import Contestant
from tests.bench.stacks import SLOW_MIB, Trial
from tests.vm.cache import BUILD
from tests.vm.hardware import MIB
from tests.vm.rows import STAGING
from tests.vm.standing import Tray, saved, standing

DEADLINE = 300
RECORD = re.compile(rb'finalstage: (\{"at": [^\n\0]*\})')


@dataclass(frozen=True)
class Measured:
    """How long it took until power went, and until the first line stood on the console; in
    seconds. `records` are those that finalstage has left in the kernel's log."""

    seconds: float
    first_line: float
    console: str
    records: tuple[dict[str, Any], ...] = ()


def measure(trial: Trial, contestant: Contestant) -> Measured:
    """Let a contestant go down once. RuntimeError if it does not power off."""
    return asyncio.run(_measure(trial, contestant))


async def _measure(trial: Trial, contestant: Contestant) -> Measured:
    state = await saved(trial.stack)
    tree = contestant.staged(trial)
    first: list[float] = []

    def heard(piece: bytes) -> None:
        if listening and piece.strip() and not first:
            first.append(time.monotonic())

    listening = False
    tray = Tray({"tree": tree} if tree else {}, {})
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        async with standing(trial.stack, state, tray, Path(folder), heard) as started:
            machine = started.machine
            if tree:
                await machine.run(STAGING)
            await machine.run("rm -rf /run/tray; sync")
            for disk in trial.stack.hardware.disks:
                if disk.name in trial.slow:
                    await machine.qmp(
                        "qom-set",
                        path=f"/objects/throttle-{disk.name}",
                        property="limits",
                        value={"bps-write": SLOW_MIB * MIB},
                    )
            await machine.run(trial.before)
            listening = True
            begin = time.monotonic()
            await machine.become(contestant.path.format(verb="poweroff"))
            end = await machine.end(DEADLINE)
            seconds = time.monotonic() - begin
            if end.kind != "poweroff":
                said = machine.console[-2000:].decode(errors="replace")
                raise RuntimeError(f"{trial.name}, {contestant.name}: {end.kind}\n{said}")
            records = (
                _records(b"".join(machine.memory())) if contestant.tree == "finalstage" else ()
            )
    console = machine.console.decode(errors="replace")
    return Measured(seconds, (first[0] if first else begin) - begin, console, records)


def _records(memory: bytes) -> tuple[dict[str, Any], ...]:
    """What finalstage has written to the kernel's log, found in the machine's RAM."""
    found: dict[str, dict[str, Any]] = {}
    for match in RECORD.finditer(memory):
        try:
            record = json.loads(match[1])
        except ValueError:
            continue
        found.setdefault(match[1].decode(), record)
    return tuple(sorted(found.values(), key=lambda record: record["at"]))
