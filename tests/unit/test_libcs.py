"""What is frozen runs beside any C library, and without one: it brings its own along."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from PyInstaller.archive.readers import CArchiveReader  # type: ignore[import-untyped]

from finalstage import __version__
from tests.unit.closure import Elf, read_elf
from tests.vm import debian
from tests.vm.cache import digest, once

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "dist/finalstage"
TREE = ROOT / "dist/tree"
FOLDERS = ("proc", "tmp", "run", "dev")
MUSL = Path("/lib/ld-musl-x86_64.so.1")
LIBC = "libc.so.6"

RUN = """
mount -t tmpfs root "$1" && cp -a "$2/." "$1" && cp "$3" "$1/finalstage" && cd "$1" || exit
mount -t proc proc proc || exit
shift 3
exec env -i "$(command -v chroot)" . "$@"
"""


def of_debian(suite: str) -> Path:
    """A root with the C library of a Debian release."""

    def build(target: Path) -> None:
        archive = debian.Archive(target / "apt", suite)
        archive.unpack(["libc6"], target / "root")
        shutil.rmtree(target / "apt")

    return once(f"libc-{suite}-{digest(Path(__file__), Path(debian.__file__))}", build) / "root"


@pytest.fixture(scope="module")
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with the C library of a name, or without one."""
    target = tmp_path_factory.mktemp("root")
    if request.param == "musl":
        (target / "lib").mkdir()
        shutil.copy(MUSL.resolve(), target / "lib" / MUSL.name)
    elif request.param != "none":
        shutil.copytree(of_debian(request.param), target, symlinks=True, dirs_exist_ok=True)
    for name in FOLDERS:
        (target / name).mkdir(exist_ok=True)
    return target


ANY_LIBC = pytest.mark.parametrize(
    "root", ["bullseye", "bookworm", "trixie", "musl", "none"], indirect=True
)


def command(root: Path, tmp_path: Path, *words: str) -> list[str]:
    """A command that runs with a copy of `root` as its root, in which the tool is /finalstage."""
    namespace = ["unshare", "--mount", "--propagation", "private"]
    return [*namespace, "sh", "-c", RUN, "sh", str(tmp_path), str(root), str(TOOL), *words]


@ANY_LIBC
def test_the_tool_stages_and_the_tree_starts(root: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        command(root, tmp_path, "/finalstage", "stage", "/run/initramfs"),
        capture_output=True,
        text=True,
    )
    assert (ran.stderr, ran.returncode) == ("", 0)
    assert ran.stdout.endswith("KiB into /run/initramfs\n")  # it has started it, too


@pytest.mark.parametrize("root", ["none"], indirect=True)
def test_it_needs_no_proc(root: Path, tmp_path: Path) -> None:
    command_ = command(root, tmp_path, "/finalstage", "--version")
    without = [word.replace("mount -t proc proc proc", "true") for word in command_]
    assert without != command_
    ran = subprocess.run(without, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == (f"finalstage {__version__}\n", "")


@pytest.mark.parametrize("root", ["bullseye", "trixie"], indirect=True)
def test_it_maps_nothing_of_the_systems(root: Path, tmp_path: Path) -> None:
    with stopped(command(root, tmp_path, "/finalstage", "--help")) as process:
        files = mapped(process)
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    folder = files[0].rpartition("/")[0]
    assert "/tmp/_MEI" in folder
    assert {Path(file).name for file in files} >= {"ld-linux-x86-64.so.2", LIBC, "bootloader"}
    assert [file for file in files if not file.startswith(f"{folder}/")] == []
    # What it starts in turn takes its own libraries, and its own folder for temporary files.
    assert [each for each in variables if each.startswith((b"LD_LIBRARY", b"TMPDIR"))] == []


def test_what_is_mapped_is_seen() -> None:
    """The control of the one before: this interpreter has the system's library mapped."""
    assert any(file.endswith(f"/{LIBC}") and "_MEI" not in file for file in mapped(os.getpid()))


def mapped(process: int) -> list[str]:
    """The files that a process has mapped, that of its program first (proc_pid_maps(5))."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    found = [line.split(maxsplit=5)[5] for line in lines if line.split()[4] != "0"]
    return list(dict.fromkeys([os.readlink(f"/proc/{process}/exe"), *found]))


@contextmanager
def stopped(words: list[str]) -> Iterator[int]:
    """The Python process of the tool, waiting in its first write: by then all is imported."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)))
    os.set_blocking(writer, True)
    with subprocess.Popen(words, stdout=writer) as process:
        try:
            yield waiting_child(process)
        finally:
            os.close(writer)
            os.close(reader)  # EPIPE: it ends, and the bootloader removes its folder


def waiting_child(process: subprocess.Popen[bytes]) -> int:
    """Return the child of a process that is in write(1, ...)."""
    end = time.monotonic() + 20
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and time.monotonic() < end:
        for child in children.read_text().split():
            with suppress(FileNotFoundError):  # the script's own, which end soon
                if Path(f"/proc/{child}/syscall").read_text().split()[:2] == ["1", "0x1"]:
                    return int(child)
        time.sleep(0.01)
    process.kill()
    raise AssertionError("it never wrote anything")


NOEXEC = "mount -t tmpfs -o noexec tmpfs"


def unpack_elsewhere(script: str) -> subprocess.CompletedProcess[str]:
    """Run the tool in a private mount namespace, after a script."""
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-euc"]
    copied = f"mount -t tmpfs tool /mnt\ncp {TOOL} /mnt/"  # the project may lie in /tmp itself
    return subprocess.run(
        [*words, f"{copied}\n{script}\nexec /mnt/{TOOL.name} --version"],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("folders", ["/tmp", "/tmp /var/tmp", "/tmp /var/tmp /run"])
def test_a_folder_that_is_noexec_is_passed_by(folders: str) -> None:
    ran = unpack_elsewhere("\n".join(f"{NOEXEC} {folder}" for folder in folders.split()))
    assert (ran.stdout, ran.stderr) == (f"finalstage {__version__}\n", "")


def test_where_nothing_can_be_unpacked_one_line_says_what_to_do() -> None:
    everywhere = ("/tmp", "/var/tmp", "/run", "/dev/shm")
    script = "\n".join(f"{NOEXEC} {folder}" for folder in everywhere)
    ran = unpack_elsewhere(script)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("finalstage: cannot unpack itself: ")
    assert line.endswith("set TMPDIR to a folder that can hold programs")
    followed = unpack_elsewhere(f"{script}\nexport TMPDIR=/mnt")
    assert followed.returncode == 0, followed.stderr


def test_what_people_and_init_start_needs_no_library() -> None:
    assert [elf_of(path).interpreter for path in (TOOL, TREE / "finalstage")] == ["", ""]
    assert [elf_of(path).needed for path in (TOOL, TREE / "finalstage")] == [[], []]
    assert [has_segment(path, "PT_DYNAMIC") for path in (TOOL, TREE / "finalstage")] == [False] * 2
    inside = elf_of(TREE / "usr/lib/finalstage/stage")  # the control
    assert inside.interpreter.endswith("/ld-linux-x86-64.so.2") and inside.needed == [LIBC]


def elf_of(path: Path) -> Elf:
    """What an ELF file says of itself."""
    found = read_elf(path.parent, path)
    assert found is not None, path
    return found


def has_segment(path: Path, kind: str) -> bool:
    """Whether an ELF file has a segment of a kind."""
    with path.open("rb") as stream:
        return any(segment["p_type"] == kind for segment in ELFFile(stream).iter_segments())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The libraries that the tool unpacks."""
    folder = tmp_path_factory.mktemp("unpacked")
    archive = CArchiveReader(str(TOOL))
    for name, entry in archive.toc.items():
        if entry[-1] == "b":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(archive.extract(name))
    return folder


@pytest.mark.parametrize("what", ["tree", "tool"])
def test_the_newest_glibc_that_is_asked_for_is_inside(what: str, unpacked: Path) -> None:
    """So no file that is frozen asks the system's own for anything, of any version."""
    folder = TREE if what == "tree" else unpacked
    elves = {path.name: elf_of(path) for path in sorted(folder.rglob("*")) if is_elf(path)}
    asked = max(map(glibc, elves.values()))
    provided = [number(version) for version in elves[LIBC].versions]
    assert (2, 17) < asked <= max(provided)
    assert [
        f"{elf.path} asks for {version} of {library}"
        for elf in elves.values()
        for library, version in sorted(elf.wanted_versions)
        if library not in elves or version not in elves[library].versions
    ] == []
    assert [name for elf in elves.values() for name in elf.needed if name not in elves] == []


def glibc(elf: Elf) -> tuple[int, ...]:
    """The highest GLIBC_ version of a symbol that a file asks for."""
    return max((number(version) for _, version in elf.wanted_versions), default=())


def number(version: str) -> tuple[int, ...]:
    """The numbers of GLIBC_2.36; nothing for GLIBC_PRIVATE and the like."""
    digits = version.removeprefix("GLIBC_")
    return tuple(map(int, digits.split("."))) if digits[0].isdigit() else ()


def is_elf(path: Path) -> bool:
    """Whether it is an ELF file."""
    return path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"
