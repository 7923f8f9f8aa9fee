"""A row: a stack, how and when it is handed over, and what came of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.vm import content, states
from tests.vm.cache import FAILURES, PROJECT
from tests.vm.content import File
from tests.vm.expected import MAY_REMAIN, Expected
from tests.vm.faults import Fault
from tests.vm.guest import guest
from tests.vm.hardware import MIB
from tests.vm.judge import Verdict, judge, judges
from tests.vm.layers import ROOT
from tests.vm.machine import End, Machine, State
from tests.vm.ram import Copies, patterns, search
from tests.vm.stacks import Stack
from tests.vm.standing import Tray, saved, standing
from tests.vm.tools import tool
from tests.vm.turns import Turn

FINALSTAGE = "finalstage"
ORACLE = "oracle"
# How PID 1 goes down: what it becomes. REMOUNT is what many machines do without finalstage.
DIRECT = "exec /run/initramfs/shutdown {verb}"
DIRECT_AS_INIT = "exec -a init /run/initramfs/shutdown {verb}"
REMOUNT = "exec sh -c 'mount -o remount,ro /; {verb} -f'"
# systemd waits for its timeout, by default 90 seconds, before it kills what ignores TERM.
SYSTEMD = "$(ls -d /lib/systemd/systemd-shutdown /usr/lib/systemd/systemd-shutdown 2>/dev/null)"
RETURN = f"exec {SYSTEMD} {{verb}} --timeout=90s --log-level=6 --log-target=console"
RETURN_SOON = RETURN.replace("90s", "2s")
# For `before`: systemd then executes finalstage where it would execute systemd-shutdown.
IN_PLACE = f"mount -o bind /run/initramfs/shutdown {SYSTEMD}"
# A tmpfs of its own, since /run may be noexec; the tree of a real machine is staged the same way.
STAGING = """
mkdir -p /run/initramfs
mount -t tmpfs -o mode=755 finalstage /run/initramfs
cp -a /run/tray/tree/. /run/initramfs/"""
# Shell text for `before`.
NO_PROC = "umount -l /proc"
NO_SYS = "umount -l /sys"
SHOW_TABLE = "/run/trouble table crypt"
STUBBORN = "(trap '' TERM HUP INT; exec 7>/data/held; while :; do sleep 60; done) &"


def leave(mebibytes: int) -> str:
    """Shell text for `before` that fills memory with a file until so much is left, or as good as
    nothing, by the tool `fill`."""
    return f"""
        mountpoint -q /mnt || mount -t tmpfs -o size=100% tmpfs /mnt
        sync; echo 3 >/proc/sys/vm/drop_caches
        /run/fill /mnt/file {mebibytes} || [ $? = 137 ]"""


DIRTY = (File("/data/new", 100_000), File("/data/new-secret", MIB, secret=True))
DIRTY_64M = (*DIRTY, File("/data/large", 64 * MIB))


@dataclass(frozen=True)
class Row:
    """One machine going down.

    It should end by `ends_by`, or else by `verb`: poweroff, reboot or halt.

    `files` are written and not synced, then `before`, shell text, is run. Then PID 1 becomes
    `path`, which hands over to `to`: finalstage's tree, or the oracle's, a shell script that knows
    all stacks by heart. `faults` come from outside meanwhile.

    `hangs` says that it mostly waits for what hangs, and hardly needs a processor meanwhile.
    `staging` is shell text that brings the tree from the tray to where `path` executes it.
    `tools` are programs of ours (tools/NAME.c), /run/NAME there; so are `programs`, files of this
    machine. RAM is searched for `keys` as for
    the stack's own keys. `expected` says what need not be left as after a clean close.
    """

    name: str
    stack: Stack
    path: str = DIRECT
    verb: str = "poweroff"
    ends_by: str = ""
    before: tuple[str, ...] = ()
    files: tuple[File, ...] = DIRTY
    faults: tuple[Fault, ...] = ()
    to: str = FINALSTAGE
    deadline: float = 120
    hangs: bool = False
    staging: str = STAGING
    programs: tuple[Path, ...] = ()
    tools: tuple[str, ...] = ()
    keys: tuple[bytes, ...] = ()
    expected: Expected = Expected()

    @property
    def folder(self) -> Path:
        """Where all that comes out of it lies."""
        return FAILURES / self.slug

    @property
    def expected_end(self) -> str:
        return self.ends_by or self.verb

    @property
    def tree(self) -> Path:
        return guest().oracle if self.to == ORACLE else PROJECT / "dist" / "tree"

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Outcome:
    """What became of a row. `flushes` are those of each disk from the hand-over to the end."""

    row: Row
    end: End
    copies: Copies
    verdict: Verdict
    total_seconds: float
    console: str
    flushes: Mapping[str, int]

    @cached_property
    def unclean(self) -> list[str]:
        """What is not clean and should be; each line begins with the name of a layer."""
        allowed = self.row.expected.unclean
        return [line for line in self.verdict.unclean if line.split()[0] not in allowed]

    @cached_property
    def damaged(self) -> list[str]:
        """Files that are not what they should be; each line begins with the path."""
        allowed = self.row.expected.lost
        return [line for line in self.verdict.damaged if line.split()[0] not in allowed]

    @cached_property
    def problems(self) -> list[str]:
        """Everything that is not as it should be, a line each; none for a clean close."""
        expected = self.row.expected
        found = []
        if self.end.kind != self.row.expected_end:
            found.append(f"the machine ended by {self.end.kind}, not {self.row.expected_end}")
        if self.copies.of_keys and not expected.keys_remain:
            found.append(f"copies of the key are left in RAM: {self.copies}")
        if expected.keys_remain != (MAY_REMAIN in self.console):
            found.append(
                f"it was {'not ' if expected.keys_remain else ''}said that a key may remain"
            )
        found += [f"{words!r} was not said" for words in expected.says if words not in self.console]
        return found + self.unclean + self.damaged

    def summary(self) -> dict[str, str]:
        """The row of the table that is printed at the end of a test session."""
        return {
            "row": self.row.name,
            "end": self.end.kind,
            "disks": _state(self.verdict.unclean, self.unclean, "clean", "unclean"),
            "files": _state(self.verdict.damaged, self.damaged, "intact", "damaged"),
            "keys": f"{self.copies.of_keys}{', said' if MAY_REMAIN in self.console else ''}",
            "plaintext": str(self.copies.plaintext),
            "seconds": f"{self.end.seconds:.2f}",
            "row seconds": f"{self.total_seconds:.1f}",
        }


def _state(all_bad: list[str], unexpected: list[str], good: str, bad: str) -> str:
    if unexpected:
        return f"{len(unexpected)} {bad}"
    return f"others {good}" if all_bad else good


def perform(row: Row, on_console: Callable[[bytes], None] | None = None) -> Outcome:
    """Let `row` happen. Everything that came out of it lies in its folder then."""
    if not (row.tree / "shutdown").exists():
        raise FileNotFoundError(f"{row.tree} is missing: run make dist")
    folder = row.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    outcome = asyncio.run(_in_turn(row, folder, on_console))
    (folder / "judge.txt").write_text(outcome.verdict.text)
    (folder / "ram.json").write_text(json.dumps(dataclasses.asdict(outcome.copies), indent=2))
    (folder / "problems.txt").write_text("".join(f"{line}\n" for line in outcome.problems))
    return outcome


async def _in_turn(row: Row, folder: Path, on_console: Callable[[bytes], None] | None) -> Outcome:
    async with Turn() as turn:
        state = await saved(row.stack)
        await asyncio.to_thread(states.base, judges(row.stack.hardware))
        return await _perform(row, state, folder, on_console, turn)


async def _perform(
    row: Row,
    state: State | None,
    folder: Path,
    on_console: Callable[[bytes], None] | None,
    turn: Turn,
) -> Outcome:
    start = time.monotonic()
    stack = row.stack
    tools = {name: tool(name) for name in row.tools}
    tools |= {program.name: program.read_bytes() for program in row.programs}
    tray = Tray({"tree": row.tree} if row.staging else {}, tools, row.files)
    async with standing(stack, state, tray, folder, on_console) as started:
        machine = started.machine
        await machine.run(row.staging, states.INSTALLING)
        root = ROOT if stack.root == states.INITRAMFS else ""
        await machine.run("\n".join(file.write(root) for file in row.files))
        await machine.run(
            "".join(f"cp /run/tray/{each} /run; chmod 755 /run/{each}\n" for each in tools)
        )
        await machine.run("rm -r /run/tray")
        await machine.run("\n".join(row.before))
        for fault in row.faults:
            if not fault.after:
                await fault.strike(machine)
        before = await machine.flushes()
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(_strike(machine, fault)) for fault in row.faults]
            await machine.become(row.path.format(verb=row.verb))
            if row.hangs:
                turn.give_back()
            end = await machine.end(row.deadline)
            for task in waiting:
                task.cancel()
        await turn.take()
        flushes = {disk: count - before[disk] for disk, count in (await machine.flushes()).items()}
        wanted = patterns(
            [*stack.keys, *row.keys], content.PLAINTEXT, stack.mac_keys, stack.unwritten_keys
        )
        copies = search(machine.memory(), wanted)
    files = (*stack.files, *row.files)
    judge_log = folder / "judge-console.log"
    verdict = await judge(stack, started.images, started.tray, started.mebibytes, files, judge_log)
    said = machine.console.decode(errors="replace")
    return Outcome(row, end, copies, verdict, time.monotonic() - start, said, flushes)


async def _strike(machine: Machine, fault: Fault) -> None:
    if fault.after:
        await machine.seen(fault.after)
        await fault.strike(machine)


def clear(outcome: Outcome) -> None:
    """Remove what a row that went as it should has left."""
    shutil.rmtree(outcome.row.folder)
