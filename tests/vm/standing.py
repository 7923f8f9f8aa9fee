"""A machine whose root lies on a stack, and which waits for orders: restored, or built anew."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import content, states
from tests.vm.content import File
from tests.vm.guest import guest
from tests.vm.machine import Machine, State
from tests.vm.stacks import Stack


@dataclass(frozen=True)
class Tray:
    """What is on a machine's tray besides what its stack is built of: folders and blobs by their
    names, and files."""

    folders: Mapping[str, Path]
    blobs: Mapping[str, bytes]
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class Standing:
    """Such a machine. Its tray is unpacked in /run/tray, from an archive of so many MiB."""

    machine: Machine
    images: Mapping[str, Path]
    tray: Path
    mebibytes: int


async def saved(stack: Stack) -> State | None:
    """The saved state of a stack, built now if need be; None where there can be none."""
    if not stack.hardware.can_be_saved:
        return None
    return await asyncio.to_thread(states.built, stack)


@asynccontextmanager
async def standing(
    stack: Stack,
    state: State | None,
    tray: Tray,
    folder: Path,
    on_console: Callable[[bytes], None] | None = None,
    *,
    mapped: bool = False,
) -> AsyncIterator[Standing]:
    """Start such a machine from its saved state, if there is one, with its images in `folder`.

    `mapped`: see Machine; for one that is restored.
    """
    hardware, image, log = stack.hardware, folder / "tray.raw", folder / "console.log"
    if state:
        images = states.images(State(folder), hardware)
        for name, saved_image in states.images(state, hardware).items():
            subprocess.run(("cp", "--sparse=always", saved_image, images[name]), check=True)
        folders, blobs, files = states.kit(stack, hardware), states.tables(stack), tray.files
        machine = Machine(
            *(hardware, images, image),
            state=state,
            log=log,
            on_console=on_console,
            mapped=mapped,
        )
    else:
        images = states.blank(hardware, folder)
        folders, blobs = states.ingredients(stack)
        files = (*stack.files, *tray.files)
        parts, ram = guest(hardware.kernel), folder / "ram"
        boot = (parts.kernel, parts.initrd)
        machine = Machine(
            hardware, images, image, boot=boot, ram=ram, log=log, on_console=on_console
        )
    mebibytes = content.fill_tray(
        image, {**folders, **tray.folders}, {**blobs, **tray.blobs}, files
    )
    async with machine:
        if not state:
            await machine.ready()
            await states.raise_root(machine, stack, mebibytes)
        await machine.run(states.unpack(mebibytes))
        yield Standing(machine, images, image, mebibytes)
