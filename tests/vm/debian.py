"""Debian packages, downloaded and unpacked but never installed, and programs picked from them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LIBRARY_FOLDERS = (
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/systemd",
)


class Archive:
    """apt with a state of its own: one Debian suite, and a machine on which nothing is installed.

    The mirrors are those which this machine already uses, so that proxies keep working.
    """

    def __init__(self, folder: Path, suite: str) -> None:
        self._debs = folder / "cache" / "archives"
        (self._debs / "partial").mkdir(parents=True)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text("".join(sources(suite)))
        (folder / "apt.conf").write_text(
            f'Dir::State "{folder}"; Dir::State::Lists "{folder}/lists";\n'
            f'Dir::State::Status "{folder}/status"; Dir::Cache "{folder}/cache";\n'
            f'Dir::Etc::SourceList "{folder}/sources.list"; Dir::Etc::SourceParts "/dev/null";\n'
            'Acquire::Languages "none"; Acquire::Retries "3"; APT::Sandbox::User "root";\n'
        )
        self._environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
        self._apt("apt-get", "-qq", "update")

    def _apt(self, *command: str) -> str:
        return subprocess.run(
            command,
            cwd=self._debs,
            env=self._environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def meant_by(self, package: str) -> str:
        """The one package that a meta-package such as linux-image-cloud-amd64 stands for."""
        depends = self._apt("apt-cache", "depends", "--important", package)
        return next(line.split()[1] for line in depends.splitlines() if "Depends:" in line)

    def unpack(self, packages: Iterable[str], target: Path) -> None:
        """Unpack `packages` and nothing that they depend on."""
        self._apt("apt-get", "-qq", "download", *packages)
        self._unpack(target)

    def unpack_with_dependencies(self, packages: Iterable[str], target: Path) -> None:
        """Unpack `packages` and all that apt would install with them on an empty machine."""
        options = ("-qq", "-y", "--no-install-recommends", "--download-only")
        self._apt("apt-get", *options, "install", *packages)
        self._unpack(target)

    def _unpack(self, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for each in sorted(self._debs.glob("*.deb")):
            subprocess.run(("dpkg-deb", "-x", each, target), check=True)
            each.unlink()


def sources(suite: str) -> list[str]:
    """Lines of a sources.list for `suite`, with the mirrors of this machine's own."""
    fields = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    targets = subprocess.run(
        ("apt-get", "indextargets", "--format", fields, "Created-By: Packages"),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    mirrors = {}
    for line in targets.splitlines():
        origin, codename, component, uri = line.split(" ", 3)
        if origin == "Debian" and component == "main":
            mirrors["security" if codename.endswith("-security") else "main"] = uri
    if len(mirrors) != 2:
        raise RuntimeError(f"apt knows no Debian mirrors, run apt-get update first: {targets!r}")
    wanted = ((suite, "main"), (f"{suite}-updates", "main"), (f"{suite}-security", "security"))
    return [f"deb [signed-by={_KEYRING}] {mirrors[of]} {name} main\n" for name, of in wanted]


def needed(file: Path) -> tuple[str | None, list[str]]:
    """The interpreter and the DT_NEEDED names of an ELF file; (None, []) for anything else."""
    with file.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return None, []
        elf = ELFFile(stream)
        interpreter = None
        libraries: list[str] = []
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                interpreter = segment.get_interp_name()
        for section in elf.iter_sections():
            if isinstance(section, DynamicSection):
                tags: Iterable[Any] = section.iter_tags("DT_NEEDED")
                libraries += [tag.needed for tag in tags]
    return interpreter, libraries


def section(file: Path, name: str) -> bytes:
    """The content of one section of an ELF file; empty if it has none of that name."""
    with file.open("rb") as stream:
        found = ELFFile(stream).get_section_by_name(name)
        return bytes(found.data()) if found is not None else b""


def pick(packages: Path, programs: Iterable[str], target: Path) -> None:
    """Copy `programs` out of unpacked `packages`, with the libraries and interpreters they need.

    Everything keeps its path; a library is stored under the name by which it is asked for.
    """
    waiting = [(name, packages / name) for name in programs]
    seen: set[str] = set()
    while waiting:
        name, source = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.resolve(), copy)
        interpreter, libraries = needed(copy)
        if interpreter is not None:
            place = Path(interpreter).relative_to("/")
            waiting.append((str(place), packages / _library(packages, place.name)))
        for library in libraries:
            place = _library(packages, library)
            waiting.append((str(place), packages / place))


def _library(packages: Path, name: str) -> Path:
    for folder in _LIBRARY_FOLDERS:
        if (packages / folder / name).exists():
            return Path(folder, name)
    raise FileNotFoundError(f"no package brought the library {name}")
