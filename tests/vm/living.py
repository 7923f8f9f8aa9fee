"""A machine that goes on living while verbs for people are tried on it."""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vm import content
from tests.vm.cache import BUILD, PROJECT
from tests.vm.content import File
from tests.vm.judge import Verdict, judge
from tests.vm.machine import Machine
from tests.vm.ram import Copies, patterns, search
from tests.vm.stacks import Stack
from tests.vm.standing import Standing, Tray, saved, standing
from tests.vm.tools import tool
from tests.vm.turns import Turn

TOOL = "/run/finalstage"
"""Where `dist/finalstage` lies there."""

BRING = """
for each in $(ls /run/tray); do
    [ ! -f /run/tray/$each ] || { cp /run/tray/$each /run/; chmod 755 /run/$each; }
done
rm -r /run/tray"""
ANSWERING = 120


@dataclass(frozen=True)
class Answer:
    """What a command printed, on both streams, and its exit status."""

    text: str
    status: int


class Living:
    """Such a machine."""

    def __init__(self, stack: Stack, standing: Standing, folder: Path) -> None:
        self.stack = stack
        self.machine: Machine = standing.machine
        self._standing = standing
        self._folder = folder

    async def run(self, script: str, deadline: float = ANSWERING) -> str:
        """Run shell text in it, which must succeed; return what it printed."""
        return await self.machine.run(script, deadline)

    async def call(self, *words: str, deadline: float = ANSWERING) -> Answer:
        """Call finalstage with some words."""
        line = f"{shlex.join((TOOL, *words))} </dev/null 2>&1"
        said = await self.run(f"{line} && s=0 || s=$?; printf '\\n%s\\n' $s", deadline)
        text, _, status = said.rstrip("\r\n").rpartition("\n")
        return Answer(text.replace("\r", "").removesuffix("\n"), int(status))

    def ram(self, *keys: bytes) -> Copies:
        """Count copies of the stack's keys, and of others, in memory. Stop the machine before:
        `await living.machine.qmp("stop")`."""
        stack = self.stack
        wanted = patterns(
            [*stack.keys, *keys], content.PLAINTEXT, stack.mac_keys, stack.unwritten_keys
        )
        return search(self.machine.memory(), wanted)

    async def judged(self, *files: File) -> Verdict:
        """Stop the machine, and have another one look at its disks: whether each layer was left
        clean, and every byte is there."""
        await self.machine.qmp("stop")
        started = self._standing
        return await judge(
            self.stack,
            started.images,
            started.tray,
            started.mebibytes,
            (*self.stack.files, *files),
            self._folder / "judge-console.log",
        )


def live(
    stack: Stack,
    act: Callable[[Living], Awaitable[None]],
    tools: tuple[str, ...] = (),
    files: tuple[File, ...] = (),
    blobs: Mapping[str, bytes] | None = None,
) -> None:
    """Start a machine with this stack, in its turn, and do something with it.

    `tools` are programs of ours (tools/NAME.c), which are then /run/NAME; so are `blobs`.
    """
    asyncio.run(_live(stack, act, tools, files, blobs or {}))


async def _live(
    stack: Stack,
    act: Callable[[Living], Awaitable[None]],
    tools: tuple[str, ...],
    files: tuple[File, ...],
    blobs: Mapping[str, bytes],
) -> None:
    programs = {name: tool(name) for name in tools} | dict(blobs)
    programs["finalstage"] = (PROJECT / "dist" / "finalstage").read_bytes()
    tray = Tray({"tree": PROJECT / "dist" / "tree"}, programs, files)
    async with Turn():
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            state = await saved(stack)
            async with standing(stack, state, tray, Path(folder)) as started:
                await started.machine.run(BRING)
                await act(Living(stack, started, Path(folder)))
