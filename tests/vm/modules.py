"""Modules of the guest's kernel, picked by name, with all that they depend on."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.vm import debian

# What every guest has, with what these depend on.
MODULE_FOLDERS = ("drivers/md", "crypto", "arch/x86/crypto")
MODULES = (
    "brd",
    "efivarfs",
    "fuse",
    "loop",
    "nbd",
    "pvpanic-mmio",
    "sd_mod",
    "softdog",
    "virtio_blk",
    "virtio_net",
    "virtio_pci",
    "virtio_scsi",
    "zram",
)


def folder(kernel: Path) -> Path:
    """The folder lib/modules/VERSION of an unpacked kernel package. Newer ones have it in usr."""
    (found,) = [*kernel.glob("lib/modules/*"), *kernel.glob("usr/lib/modules/*")]
    return found


def decompress(kernel: Path) -> None:
    """Put each module of an unpacked kernel package as it is in place of a compressed one."""
    for file in folder(kernel).rglob("*.ko.xz"):
        file.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
        file.unlink()


def every_guests(source: Path) -> list[str]:
    """The names of the modules that every guest has; `source` is a folder /lib/modules/VERSION."""
    built_in = {
        canonical(Path(line).name) for line in (source / "modules.builtin").read_text().splitlines()
    }
    names = [name for name in map(canonical, MODULES) if name not in built_in]
    for folder in MODULE_FOLDERS:
        names += [canonical(file.name) for file in (source / "kernel" / folder).rglob("*.ko")]
    return names


def with_dependencies(source: Path, names: Iterable[str]) -> dict[str, Path]:
    """The files of the modules `names` and of all that they depend on, by name.

    KeyError for a name that the kernel has no module of; what is built in has none.
    """
    by_name = {canonical(file.name): file for file in source.rglob("*.ko")}
    waiting = [canonical(name) for name in names]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = by_name[name]
            waiting += _depends(found[name])
    return found


def copy(source: Path, files: dict[str, Path], target: Path) -> None:
    """Copy module files to where a root file system `target` has them."""
    for file in files.values():
        place = target / "lib" / "modules" / source.name / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, place)


def canonical(name: str) -> str:
    """Return a module's name, or its file's, as the kernel itself calls it."""
    return name.removesuffix(".ko").replace("-", "_")


def _depends(module: Path) -> list[str]:
    """The names in the `depends=` line of a module's .modinfo section."""
    for entry in debian.section(module, ".modinfo").split(b"\0"):
        if entry.startswith(b"depends="):
            return [canonical(name) for name in entry[8:].decode().split(",") if name]
    return []
