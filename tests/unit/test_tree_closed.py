"""dist/tree needs nothing that is not in it, and is the same in every form that is delivered."""

import dis
import marshal
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType

import pytest
from elftools.elf.elffile import ELFFile
from PyInstaller.archive.readers import CArchiveReader  # type: ignore[import-untyped]

from finalstage.cli.staged.payload import Entry, differences, write_tree
from tests.unit.closure import Tree

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
TREE = ROOT / "dist/tree"
CPIO = ROOT / "dist/finalstage-tree.cpio.zst"
TAR = ROOT / "dist/finalstage-tree.tar.xz"
STAGE = "/usr/lib/finalstage/stage"
LIBRARIES = "usr/lib/finalstage/_internal"
MOST = 10_000_000  # bytes


def read(root: Path) -> Tree:
    return Tree(root, STAGE, "libpython")


@pytest.fixture
def doctored(tmp_path: Path) -> Path:
    """A copy of the tree that a test may damage."""
    return Path(shutil.copytree(TREE, tmp_path / "tree", symlinks=True))


def contents(root: Path) -> dict[str, Entry]:
    paths = [str(path.relative_to(root)) for path in root.rglob("*")]
    return {path: Entry.of(root, path) for path in paths}


def test_every_need_is_met_inside() -> None:
    tree = read(TREE)
    assert {"/finalstage", STAGE} <= tree.files.keys()
    assert tree.complaints() == []


def without_a_library(root: Path) -> None:
    (root / LIBRARIES / "libm.so.6").unlink()


def without_ld_so(root: Path) -> None:
    next((root / LIBRARIES).glob("ld-linux*")).unlink()


def with_another_library_of_that_name(root: Path) -> None:
    shutil.copy(root / LIBRARIES / "libpthread.so.0", root / LIBRARIES / "libm.so.6")


def with_an_rpath_to_elsewhere(root: Path) -> None:
    stage = root / STAGE.lstrip("/")
    data = stage.read_bytes()
    assert data.count(f"\0/{LIBRARIES}\0".encode()) == 1
    stage.write_bytes(
        data.replace(f"\0/{LIBRARIES}\0".encode(), f"\0/opt/{LIBRARIES[4:]}\0".encode())
    )


def with_an_executable_stack(root: Path) -> None:
    library = root / LIBRARIES / "libm.so.6"
    with library.open("r+b") as stream:
        file = ELFFile(stream)
        index = [segment["p_type"] for segment in file.iter_segments()].index("PT_GNU_STACK")
        stream.seek(file["e_phoff"] + index * file["e_phentsize"] + 4)
        stream.write(struct.pack("<I", 7))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without_a_library, "needs libm.so.6, not there"),
        (without_ld_so, "its interpreter"),
        (with_another_library_of_that_name, "symbol atan2"),
        (with_an_rpath_to_elsewhere, "its RPATH /opt/lib/finalstage/_internal is not there"),
        (with_an_executable_stack, "has an executable stack"),
    ],
)
def test_a_damaged_tree_is_noticed(
    doctored: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(doctored)
    assert any(complaint in line for line in read(doctored).complaints())


def test_the_launcher_needs_nothing() -> None:
    launcher = read(TREE).files["/finalstage"]
    assert (launcher.interpreter, launcher.needed) == ("", [])


def test_the_bootloader_needs_no_zlib() -> None:
    assert read(TREE).stage.needed == ["libc.so.6"]


def test_it_is_small() -> None:
    assert sum(path.lstat().st_size for path in TREE.rglob("*")) <= MOST


def test_links_are_relative_and_lead_to_files() -> None:
    links = {path.name: str(path.readlink()) for path in TREE.rglob("*") if path.is_symlink()}
    assert links == {"shutdown": "finalstage", "wipe-keys": "finalstage"}


def test_nothing_is_setuid_or_writable_by_others() -> None:
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in TREE.rglob("*")}
    odd = [path for path, mode in modes.items() if not path.is_symlink() and mode & 0o6022]
    assert odd == [TREE / "tmp"]


def test_the_cpio_archive_holds_the_same(tmp_path: Path) -> None:
    plain = subprocess.run(["zstd", "-dc", CPIO], capture_output=True, check=True).stdout
    subprocess.run(["cpio", "-idm", "--quiet"], input=plain, cwd=tmp_path, check=True)
    assert contents(tmp_path) == contents(TREE)


def test_the_cpio_archive_names_folders_before_what_is_in_them() -> None:
    plain = subprocess.run(["zstd", "-dc", CPIO], capture_output=True, check=True).stdout
    listing = subprocess.run(
        ["cpio", "-t", "--quiet"], input=plain, capture_output=True, check=True
    )
    seen = {"."}
    for name in listing.stdout.decode().split():
        assert not name.startswith("/")
        assert str(Path(name).parent) in seen
        seen.add(name)


def test_the_tar_archive_holds_the_same(tmp_path: Path) -> None:
    subprocess.run(["tar", "-xpf", TAR, "-C", tmp_path], check=True)
    assert contents(tmp_path) == contents(TREE)


def test_the_payload_holds_the_same(tmp_path: Path) -> None:
    write_tree(tmp_path)
    assert differences(tmp_path) == []
    assert contents(tmp_path) == contents(TREE)


def test_a_changed_byte_is_noticed_after_writing(tmp_path: Path) -> None:
    write_tree(tmp_path)
    library = tmp_path / LIBRARIES / "libm.so.6"
    library.write_bytes(library.read_bytes()[:-1] + b"\1")
    (tmp_path / "tmp").rmdir()
    assert [line.split(":")[0] for line in differences(tmp_path)] == [
        "tmp",
        f"{LIBRARIES}/libm.so.6",
    ]


def test_no_file_names_the_place_it_was_built_in() -> None:
    place = str(ROOT).encode()
    assert [path for path in TREE.rglob("*") if path.is_file() and place in path.read_bytes()] == []


def test_frozen_code_names_no_absolute_path() -> None:
    places = {name: code.co_filename for name, code in frozen_modules().items()}
    assert "finalstage.stage" in places
    assert [name for name, place in places.items() if place.startswith("/")] == []


def test_slow_modules_are_not_in_it() -> None:
    """Each costs milliseconds before the first line of ours runs (measured: DESIGN.md)."""
    slow = {"argparse", "ctypes", "dataclasses", "enum", "inspect", "logging", "re", "typing"}
    assert slow & frozen_modules().keys() == set()


def test_nothing_for_people_is_in_it() -> None:
    tops = ("rich", "pygments", "shtab", "finalstage.cli")
    assert [name for name in frozen_modules() if name.startswith(tops)] == []
    assert [name for name in frozen_modules() if name.startswith("finalstage.kernel")]


def test_no_function_imports_anything() -> None:
    """Only what importing the stage loads is in the tree, and nothing may be opened late."""
    late = {
        name: list(late_imports(code))
        for name, code in frozen_modules().items()
        if name != "encodings"  # which looks for one when it is asked for it, in the same library
    }
    assert {name: found for name, found in late.items() if found} == {}


def late_imports(code: CodeType) -> Iterator[str]:
    """Where code that is not run when its module is imported imports something."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if any(step.opname == "IMPORT_NAME" for step in dis.get_instructions(part)):
                yield f"line {part.co_firstlineno}, {part.co_qualname}"
            yield from late_imports(part)


def frozen_modules() -> dict[str, CodeType]:
    """Each module in Python that is part of the tree's libpython, and the program itself."""
    archive = CArchiveReader(str(TREE / STAGE.lstrip("/")))
    found = {"entry_stage": marshal.loads(archive.extract("entry_stage"))}
    (library,) = (TREE / LIBRARIES).glob("libpython*")
    content = library.read_bytes()
    for path in BUILD.glob("libpython/*/*.marshal"):
        code = path.read_bytes()
        assert code in content, path
        found[path.stem] = marshal.loads(code)
    return found
