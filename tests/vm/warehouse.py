"""What stacks are built and judged with besides what every guest has, picked stack by stack.

A guest with all of it would be large, and slow to boot. So each stack brings a kit: the programs
and modules that its layers name, with all that these need.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.vm import debian, modules
from tests.vm.cache import digest, once
from tests.vm.guest import KERNEL, SUITE, guest
from tests.vm.layers import Layer

_HERE = Path(__file__).resolve().parent
_DEBIAN = _HERE / "debian.py"
PACKAGES = (
    "bcache-tools",
    "btrfs-progs",
    "cryptsetup-bin",
    "e2fsprogs",
    "erofs-utils",
    "mdadm",
    "nfs-kernel-server",
    "open-iscsi",
    "squashfs-tools",
    "thin-provisioning-tools",
    "xfsprogs",
)


@cache
def _packages() -> Path:
    """Debian's packages, unpacked once."""

    def build(target: Path) -> None:
        archive = debian.Archive(target / "apt", SUITE)
        archive.unpack_with_dependencies(PACKAGES, target / "packages")
        shutil.rmtree(target / "apt")

    return once(f"warehouse-{digest(SUITE, PACKAGES, _DEBIAN)}", build) / "packages"


@cache
def _modules(suite: str) -> Path:
    """The folder lib/modules/VERSION with all modules of a kernel, unpacked once."""

    def build(target: Path) -> None:
        archive = debian.Archive(target / "apt", suite)
        archive.unpack([archive.meant_by(KERNEL)], target)
        shutil.rmtree(target / "apt")
        modules.decompress(target)
        version = modules.folder(target)
        below = version.parents[2]
        busybox = guest().oracle / "bin" / "busybox"
        subprocess.run((busybox, "depmod", "-b", below, version.name), check=True)

    return modules.folder(once(f"modules-{suite}-{digest(guest(suite).version, _DEBIAN)}", build))


def kernel() -> Path:
    """The unpacked package of the guests' kernel: its boot/, and lib/modules/ with all modules."""
    return _modules(SUITE).parents[2]


def kit(layers: Iterable[Layer], suite: str) -> Path | None:
    """The folder to be copied over the own files of a guest with the kernel of `suite` for these
    layers; None if they need none.

    KeyError or FileNotFoundError names what no package has.
    """
    layers = tuple(layers)
    programs = sorted({name for layer in layers for name in layer.programs})
    names = sorted({name for layer in layers for name in layer.modules})
    missing = _missing(names, suite)
    if not programs and not missing:
        return None
    here = _HERE / "warehouse.py"
    key = digest(_packages().parent.name, guest(suite).version, programs, names, here)

    def build(target: Path) -> None:
        debian.pick(_packages(), programs, target)
        source = _modules(suite)
        modules.copy(source, missing, target)
        index = target / "lib" / "modules" / source.name
        index.mkdir(parents=True, exist_ok=True)
        for file in source.glob("modules.*"):
            shutil.copy2(file, index)

    return once(f"kit-{key}", build)


def _missing(names: Iterable[str], suite: str) -> dict[str, Path]:
    """The files of modules that these names need and that not every guest has."""
    has = guest(suite).modules
    if {modules.canonical(name) for name in names} <= has:
        return {}
    files = modules.with_dependencies(_modules(suite), names)
    return {name: file for name, file in files.items() if name not in has}
