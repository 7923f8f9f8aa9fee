"""The second boot: the disks of a machine that went down, read-only, layer by layer."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.vm.content import File
from tests.vm.hardware import Hardware
from tests.vm.layers import ROOT
from tests.vm.machine import Machine
from tests.vm.stacks import Stack
from tests.vm.states import DISKS, TAKE_KIT, base, kit, tables, unpack


@dataclass(frozen=True)
class Verdict:
    """What the second boot found, and what it should have found. `text` is all that it said."""

    facts: Mapping[str, str]
    expected_facts: Mapping[str, str]
    checksums: Mapping[str, str]
    expected_checksums: Mapping[str, str]
    text: str

    @property
    def unclean(self) -> list[str]:
        """Facts about layers that are not what a clean close leaves."""
        return _differences(self.facts, self.expected_facts)

    @property
    def damaged(self) -> list[str]:
        """Files that are missing or differ."""
        return _differences(self.checksums, self.expected_checksums)


def _differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    return [
        f"{name} is {found.get(name, 'unknown')}, not {value}"
        for name, value in expected.items()
        if found.get(name) != value
    ]


def judges(hardware: Hardware) -> Hardware:
    """The machine on which the disks of `hardware` are judged: nothing special but its disks, and
    the kernel that the modules on the tray are of."""
    disks = tuple(replace(disk, bus="virtio") for disk in hardware.disks)
    return Hardware(disks, kernel=hardware.kernel)


async def judge(
    stack: Stack,
    images: Mapping[str, Path],
    tray: Path,
    mebibytes: int,
    files: Sequence[File],
    log: Path,
) -> Verdict:
    """Restore a booted machine with the disks of `stack`, and look at every layer.

    `mebibytes` is the size of what its tray holds.
    """
    paths = " ".join(shlex.quote(file.path.lstrip("/")) for file in files)
    hardware = judges(stack.hardware)
    state = await asyncio.to_thread(base, hardware)
    async with Machine(hardware, images, tray, state=state, read_only=True, log=log) as machine:
        modules = {name for layer in stack.layers for name in layer.modules}
        script = ["modprobe virtio_blk", DISKS]
        if tables(stack) or kit(stack, hardware):
            script += [unpack(mebibytes), TAKE_KIT]
        script += [*(f"modprobe {name}" for name in sorted(modules)), ". /lib/guest/judge"]
        script += [layer.judge() for layer in stack.layers]
        script += [f"cd {ROOT}", f"sha256sum {paths} | sed 's/^/sha256 /'"]
        text = await machine.run("\n".join(script), deadline=120)

    facts: dict[str, str] = {}
    checksums: dict[str, str] = {}
    for line in text.splitlines():
        match line.split():
            case ["fact", layer, key, *value]:
                facts[f"{layer} {key}"] = " ".join(value)
            case ["sha256", checksum, name]:
                checksums[f"/{name}"] = checksum
    return Verdict(
        facts=facts,
        expected_facts={
            f"{layer.name} {key}": value
            for layer in stack.layers
            for key, value in layer.clean.items()
        },
        checksums=checksums,
        expected_checksums={file.path: file.sha256 for file in files},
        text=text,
    )
