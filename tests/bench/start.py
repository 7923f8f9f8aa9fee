"""From exec to the first line: the stage beside a frozen program that only prints, in one guest.

Both are executed by PID 1 of the same machine, with the same Python, the same bootloader and the
same libraries. To see what is whose, each is started with and without the launcher.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cffi_build import project
from cffi_build.bootloader import STAGE_LINK_FLAGS, bootloader
from cffi_build.freeze import ENCODINGS, Freeze, imported_modules
from cffi_build.tree import STAGE
from tests.bench.run import Ear
from tests.bench.stacks import MAIN_TRIAL
from tests.vm.cache import BUILD, PROJECT, digest, once
from tests.vm.rows import DIRECT, STAGING
from tests.vm.standing import Tray, saved, standing

_HERE = Path(__file__).resolve().parent
TREE = PROJECT / "dist/tree"
ALONE = f"exec chroot /run/initramfs /{STAGE}"
FINALSTAGE, STAGE_ALONE = "finalstage", "stage alone, --version"
HELLO, BARE_HELLO = "hello", "hello, frozen like the stage"
_PLAIN = (_HERE / "hello.py", _HERE / "hello.spec")
FIRST_LINE_SECONDS = 30.0
WARM_UP = 3
"""Times that a program is run before it is warm: QEMU has then translated what it executes."""

LINE = re.compile(r"import time: +(\d+) \| +(\d+) \| ( *)(\S+)")


@dataclass(frozen=True)
class Starter:
    """What is started, by which path of PID 1, and how it is run to be warm."""

    name: str
    path: str
    tree: Path
    arguments: str = ""


@dataclass(frozen=True)
class Import:
    """A module, what it took by itself, in microseconds, and how deep in others' it was."""

    module: str
    microseconds: int
    depth: int


def starters() -> tuple[Starter, ...]:
    """All of them."""
    launched = DIRECT.format(verb="poweroff")
    return (
        Starter(FINALSTAGE, launched, TREE, "--version"),
        Starter(STAGE_ALONE, f"{ALONE} --version", TREE, "--version"),
        Starter("hello, by the launcher", launched, hello()),
        Starter(HELLO, ALONE, hello()),
        Starter(BARE_HELLO, ALONE, bare_hello()),
    )


def hello() -> Path:
    """The tree with a program that only prints in the stage's place, frozen as anybody would."""

    def build(folder: Path) -> None:
        plan = Freeze(
            "stage",
            str(bootloader("stage", STAGE_LINK_FLAGS)),
            spec="tests/bench/hello.spec",
            entry=str(_HERE / "hello.py"),
        )
        frozen = plan.run(folder / "frozen")
        shutil.copytree(TREE, folder / "tree", symlinks=True)
        program = folder / "tree" / STAGE
        shutil.copy2(frozen / "stage", program)
        shutil.copytree(frozen / "_internal", program.parent / "_internal", dirs_exist_ok=True)
        shutil.rmtree(folder / "frozen")

    return once(f"start-hello-{digest(TREE, project.ROOT / 'cffi_build', *_PLAIN)}", build) / "tree"


def bare_hello() -> Path:
    """The same, but frozen with all that is done for the stage to start quickly."""
    return _variant("bare-hello", ENCODINGS, entry=str(_HERE / "hello.py"))


def telling() -> Path:
    """The tree with a stage that tells what it imports, and how long that takes."""
    modules = imported_modules("finalstage.wipe") | ENCODINGS
    return _variant("telling", modules, options=("X importtime",))


def _variant(name: str, modules: frozenset[str], **changes: Any) -> Path:
    """A copy of the tree with another frozen program in it. The modules are in its libpython."""

    def build(folder: Path) -> None:
        plan = Freeze(
            name,
            str(bootloader("stage", STAGE_LINK_FLAGS)),
            spec="cffi_build/stage.spec",
            modules=tuple(sorted(modules)),
            **changes,
        )
        frozen = plan.run(folder / "frozen")
        shutil.copytree(TREE, folder / "tree", symlinks=True)
        shutil.copy2(frozen / name, folder / "tree" / STAGE)
        shutil.rmtree(folder / "frozen")

    marks = (TREE, project.ROOT / "cffi_build", _HERE / "hello.py", sorted(changes.items()))
    return once(f"start-{name}-{digest(*marks)}", build) / "tree"


def first_line(starter: Starter, warm: bool) -> float:
    """Seconds from exec to the first line on the console."""
    return asyncio.run(_first_line(starter, warm))


async def _first_line(starter: Starter, warm: bool) -> float:
    ear = Ear()
    trial = MAIN_TRIAL
    state = await saved(trial.stack)
    with tempfile.TemporaryDirectory(dir=BUILD.parent) as folder:
        tray = Tray({"tree": starter.tree}, {})
        async with standing(
            trial.stack, state, tray, Path(folder), ear.heard, mapped=True
        ) as started:
            machine = started.machine
            await machine.run(f"{STAGING}\nrm -rf /run/tray; sync")
            if warm:
                run = f"chroot /run/initramfs /{STAGE} {starter.arguments} >/dev/null"
                await machine.run("\n".join([run] * WARM_UP))
            ear.listen()
            await machine.become(starter.path)
            async with asyncio.timeout(FIRST_LINE_SECONDS):
                await ear.spoken.wait()
    return ear.seconds


def imports() -> list[Import]:
    """What the stage imports, in order, and how long that takes in the guest."""
    return read(asyncio.run(_imports()))


async def _imports() -> str:
    state = await saved(MAIN_TRIAL.stack)
    with tempfile.TemporaryDirectory(dir=BUILD.parent) as folder:
        tray = Tray({"tree": telling()}, {})
        async with standing(MAIN_TRIAL.stack, state, tray, Path(folder)) as started:
            run = f"chroot /run/initramfs /{STAGE} --version 2>/run/imports"
            await started.machine.run("\n".join((STAGING, *[run] * WARM_UP)))
            return await started.machine.run("cat /run/imports")


def read(text: str) -> list[Import]:
    """Read what -X importtime prints."""
    return [Import(match[4], int(match[1]), len(match[3]) // 2) for match in LINE.finditer(text)]
