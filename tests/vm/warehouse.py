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
def _warehouse() -> Path:
    """Debian's packages and all modules of its kernel, unpacked once on this machine."""
    key = digest(guest().version, SUITE, KERNEL, PACKAGES, _HERE / "debian.py")
    return once(f"warehouse-{key}", _build)


def _build(target: Path) -> None:
    archive = debian.Archive(target / "apt", SUITE)
    archive.unpack([archive.meant_by(KERNEL)], target / "kernel")
    archive.unpack_with_dependencies(PACKAGES, target / "packages")
    shutil.rmtree(target / "apt")
    source = _modules(target)
    depmod = (guest().oracle / "bin" / "busybox", "depmod", "-b", target / "kernel", source.name)
    subprocess.run(depmod, check=True)


def _modules(folder: Path) -> Path:
    (source,) = (folder / "kernel" / "lib" / "modules").iterdir()
    return source


def kit(layers: Iterable[Layer]) -> Path | None:
    """The folder to be copied over a guest's own files for these layers; None if they need none.

    KeyError or FileNotFoundError names what no package has.
    """
    layers = tuple(layers)
    programs = sorted({name for layer in layers for name in layer.programs})
    names = sorted({name for layer in layers for name in layer.modules})
    if not programs and not _missing(names):
        return None
    key = digest(_warehouse().name, programs, names, _HERE / "warehouse.py")

    def build(target: Path) -> None:
        debian.pick(_warehouse() / "packages", programs, target)
        source = _modules(_warehouse())
        modules.copy(source, _missing(names), target)
        index = target / "lib" / "modules" / source.name
        index.mkdir(parents=True, exist_ok=True)
        for file in source.glob("modules.*"):
            shutil.copy2(file, index)

    return once(f"kit-{key}", build)


def _missing(names: Iterable[str]) -> dict[str, Path]:
    """The files of modules that these names need and that not every guest has."""
    if {modules.canonical(name) for name in names} <= guest().modules:
        return {}
    files = modules.with_dependencies(_modules(_warehouse()), names)
    return {name: file for name, file in files.items() if name not in guest().modules}
