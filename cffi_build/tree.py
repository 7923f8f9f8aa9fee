"""Puts the tree together: the launcher, the frozen stage, and every library that they need.

All libraries, ld.so among them, are in one folder that no other program uses, and the stage names
that folder and its ld.so by itself. So the tree works as a root of its own and, appended to some
initramfs, replaces nothing there: a `/lib64` of ours would take the place of the link of that name
and break every other program.
"""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from cffi_build import project
from cffi_build.project import HOST_INTERPRETER, INTERPRETER, LIBRARY_DIR

STAGE = "usr/lib/finalstage/stage"
LAUNCHER = "finalstage"
LINKS = ("shutdown", "wipe-keys")
"""What it is executed as."""

EMPTY_DIRS = {
    "dev": 0o755,
    "proc": 0o555,
    "sys": 0o555,
    "run": 0o755,
    "oldroot": 0o755,
    "tmp": 0o1777,
}
LAUNCHER_FLAGS = (
    *("-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-fno-pie", "-no-pie"),
    *("-fno-asynchronous-unwind-tables", "-Wl,-z,noexecstack", "-Wl,--build-id=none"),
)


def assemble(root: Path, frozen: Path, libpython: Path) -> None:
    """Writes the tree into the new directory `root`, from PyInstaller's one-dir output `frozen`."""
    shutil.rmtree(root, ignore_errors=True)
    libraries = root / LIBRARY_DIR
    shutil.copytree(frozen / "_internal", libraries)
    shutil.copy(frozen / "stage", root / STAGE)
    shutil.copy(libpython, libraries / libpython.name)
    compile_launcher(root / LAUNCHER)
    for name in LINKS:
        (root / name).symlink_to(LAUNCHER)
    _add_needed_libraries(root)
    shutil.copy(HOST_INTERPRETER, root / INTERPRETER.lstrip("/"))
    for library in libraries.rglob("*.so*"):
        # Not the stage itself: PyInstaller's archive is a section of it.
        subprocess.run(["strip", "--strip-unneeded", library], check=True)
    for name in EMPTY_DIRS:
        (root / name).mkdir()
    _normalise(root)


def compile_launcher(program: Path) -> None:
    """Compiles the static program that init starts. With musl it is 70 kB, with glibc 800."""
    sources = sorted((project.ROOT / "finalstage/launcher").glob("*.c"))
    if not sources:
        raise project.die("finalstage/launcher/ holds no C source")
    command = ["musl-gcc", *LAUNCHER_FLAGS, "-idirafter", str(kernel_headers())]
    command += ["-o", str(program), *map(str, sources)]
    if subprocess.run(command, check=False).returncode != 0:
        raise project.die("the launcher does not compile")
    subprocess.run(["strip", "--strip-all", program], check=True)


def kernel_headers() -> Path:
    """A folder with the kernel's headers alone: beside musl's, those of glibc must not be seen."""
    folder = project.BUILD / "kernel-headers"
    folder.mkdir(parents=True, exist_ok=True)
    multiarch = str(sysconfig.get_config_var("MULTIARCH"))
    places = {"linux": "linux", "asm-generic": "asm-generic", "asm": f"{multiarch}/asm"}
    for name, place in places.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"/usr/include/{place}")
    return folder


def needed_libraries(path: Path) -> tuple[str, ...]:
    """DT_NEEDED of an ELF file."""
    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if isinstance(section, DynamicSection):
                return tuple(vars(tag)["needed"] for tag in section.iter_tags("DT_NEEDED"))
    return ()


def is_elf(path: Path) -> bool:
    """Whether this is a regular file that starts like an ELF file."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _add_needed_libraries(root: Path) -> None:
    """Copies each library that anything in the tree needs, until nothing is missing."""
    libraries = root / LIBRARY_DIR
    there = {path.name for path in libraries.iterdir()} | {HOST_INTERPRETER.name}
    files = [path for path in sorted(root.rglob("*")) if is_elf(path)]
    for name, path in missing_libraries(files, there).items():
        shutil.copy(path, libraries / name)


def missing_libraries(files: list[Path], there: set[str]) -> dict[str, Path]:
    """Each library of the host, by name, that any of the ELF `files` needs and that is not `there`,
    and what these need in turn."""
    known = _host_libraries()
    found: dict[str, Path] = {}
    todo = list(files)
    while todo:
        for name in needed_libraries(todo.pop()):
            if name in there or name in found:
                continue
            if name not in known:
                raise project.die(f"{name} is needed and unknown to ldconfig")
            found[name] = known[name]
            todo.append(known[name])
    return found


def _host_libraries() -> dict[str, Path]:
    """Name to path of each library of the host's own architecture that ld.so would find by name."""
    listing = subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True
    ).stdout
    machine = re.escape(os.uname().machine.replace("_", "-"))
    lines = re.findall(rf"^\s+(\S+) \([^)]*{machine}[^)]*\) => (\S+)$", listing, re.MULTILINE)
    return {name: Path(path) for name, path in reversed(lines)}


def _normalise(root: Path) -> None:
    """Modes that do not depend on the builder's umask, and one date for all."""
    date = project.source_date()
    for path in sorted(root.rglob("*"), reverse=True):
        if not path.is_symlink():
            if path.is_dir():
                path.chmod(EMPTY_DIRS.get(str(path.relative_to(root)), 0o755))
            else:
                path.chmod(0o755 if is_elf(path) else 0o644)
        os.utime(path, (date, date), follow_symlinks=False)
    root.chmod(0o755)
    os.utime(root, (date, date))
