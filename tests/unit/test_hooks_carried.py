"""What the tree carries for this machine: hooks, all that they need, and what keeps one out."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finalstage.cli import files
from finalstage.cli.problems import WrongError
from finalstage.cli.staged import carried, closure, hooks
from finalstage.cli.staged.carried import Carried

LAUNCHER = Path(__file__).resolve().parents[2] / "finalstage/launcher/hooks.c"
LIBRARY = "int number(void) { return 42; }\n"
PROGRAM = '#include <stdio.h>\nint number(void);\nint main(void) { printf("%d\\n", number()); }\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory of hooks, with a folder for each moment."""
    for moment in ("start", "closed", "last"):
        (tmp_path / "hooks" / moment).mkdir(parents=True)
    return tmp_path / "hooks"


def script(place: Path, text: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    place.write_text(text)
    place.chmod(mode)
    return place


def program(place: Path, libraries: Path) -> Path:
    """A program that finds a library of its own by its RUNPATH alone."""
    libraries.mkdir(exist_ok=True)
    (libraries / "number.c").write_text(LIBRARY)
    (libraries / "program.c").write_text(PROGRAM)
    library = libraries / "libnumber.so"
    subprocess.run(["gcc", "-shared", "-o", library, libraries / "number.c"], check=True)
    linked = (f"-L{libraries}", "-lnumber", f"-Wl,-rpath,{libraries}")
    subprocess.run(["gcc", "-o", place, libraries / "program.c", *linked], check=True)
    return place


def collected(directory: Path) -> tuple[Carried, list[str], list[str]]:
    """What would be carried, the places of the hooks, and problems by the names of the files."""
    found = Carried()
    places, problems = hooks.add_to(found, directory)
    return found, places, [str(problem).replace(f"{directory}/", "") for problem in problems]


def run_in(found: Carried, tree: Path, *command: str) -> str:
    """Write it into a directory, and run a command with that as its root, and nothing else."""
    tree.mkdir()
    found.write(tree)
    (tree / "dev").mkdir()
    inside = 'mount -t tmpfs d "$1/dev"; : >"$1/dev/null"; tree=$1; shift; exec chroot $tree "$@"'
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", inside, "-", tree, *command],
        env={"PATH": closure.SEARCHED},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


# -- what is carried -----------------------------------------------------------------------------


def test_a_script_runs_in_the_tree(directory: Path, tmp_path: Path) -> None:
    script(directory / "start/10-say", "#!/bin/sh\necho said $1\n")
    found, places, problems = collected(directory)
    assert (places, problems) == (["etc/finalstage/hooks/start/10-say"], [])
    assert run_in(found, tmp_path / "tree", f"/{places[0]}", "halt") == "said halt\n"


def test_a_program_runs_in_the_tree_with_its_libraries(directory: Path, tmp_path: Path) -> None:
    program(directory / "last/number", tmp_path / "libraries")
    found, places, problems = collected(directory)
    assert problems == []
    assert str(tmp_path / "libraries/libnumber.so").lstrip("/") in found.contents
    assert run_in(found, tmp_path / "tree", f"/{places[0]}") == "42\n"


def test_a_script_for_env_runs_in_the_tree(directory: Path, tmp_path: Path) -> None:
    script(directory / "last/by-env", "#!/usr/bin/env -S X=3 sh -e\necho $X\n")
    found, places, problems = collected(directory)
    assert problems == []
    assert run_in(found, tmp_path / "tree", f"/{places[0]}") == "3\n"


def test_a_script_whose_interpreter_is_a_script(directory: Path, tmp_path: Path) -> None:
    script(tmp_path / "interpreter", "#!/bin/sh\necho by script\n")
    script(directory / "last/x", f"#!{tmp_path}/interpreter\n")
    found, places, problems = collected(directory)
    assert problems == []
    assert run_in(found, tmp_path / "tree", f"/{places[0]}") == "by script\n"


def test_a_static_program_needs_nothing(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text("int main(void) { return 0; }")
    subprocess.run(
        ["musl-gcc", "-static", "-o", directory / "start/x", tmp_path / "x.c"], check=True
    )
    found, places, problems = collected(directory)
    assert (list(found.contents), problems) == (places, [])


def test_a_program_for_musl_runs_in_the_tree(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "x.c").write_text('#include <stdio.h>\nint main(void) { puts("musl"); }')
    subprocess.run(["musl-gcc", "-o", directory / "start/x", tmp_path / "x.c"], check=True)
    found, places, problems = collected(directory)
    assert problems == []
    assert run_in(found, tmp_path / "tree", f"/{places[0]}") == "musl\n"


def test_what_is_listed_is_carried_with_what_it_needs(directory: Path, tmp_path: Path) -> None:
    script(directory / "start/x", "#!/bin/sh\ncat /srv/data; sleep 0\n")
    found = collected(directory)[0]
    found.add(Path("/usr/bin/cat"))
    found.add(Path("/bin/sleep"))
    data = tmp_path / "data"
    data.write_text("of the administrator\n")
    data.chmod(0o600)
    found.add(data)
    script(directory / "start/y", f"#!/bin/sh\ncat {data}; sleep 0\n")
    hooks.add_to(found, directory)
    assert found.entries[str(data).lstrip("/")].mode == 0o600
    ran = run_in(found, tmp_path / "tree", "/etc/finalstage/hooks/start/y")
    assert ran == "of the administrator\n"


def test_a_library_that_is_listed_brings_its_own(tmp_path: Path) -> None:
    program(tmp_path / "x", tmp_path / "libraries")
    (tmp_path / "y.c").write_text("int number(void); int twice(void) { return 2 * number(); }")
    library = tmp_path / "libtwice.so"
    linked = (f"-L{tmp_path}/libraries", "-lnumber", f"-Wl,-rpath,{tmp_path}/libraries")
    subprocess.run(["gcc", "-shared", "-o", library, tmp_path / "y.c", *linked], check=True)
    library.chmod(0o644)
    found = Carried()
    found.add(library)
    assert str(tmp_path / "libraries/libnumber.so").lstrip("/") in found.contents


def test_links_are_carried_as_links(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("x")
    (folder / "relative").symlink_to("file")
    (folder / "up").symlink_to("../folder/relative")
    (tmp_path / "elsewhere").symlink_to(folder)
    found = Carried()
    found.add(tmp_path / "elsewhere" / "up")
    found.add(folder)
    base = str(tmp_path).lstrip("/")
    kinds = {path.removeprefix(f"{base}/"): entry.kind for path, entry in found.entries.items()}
    wanted = {"elsewhere": "l", "folder/up": "l", "folder/relative": "l", "folder/file": "f"}
    assert {path: kinds[path] for path in wanted} == wanted


def test_a_tree_is_compared_with_what_it_should_carry(directory: Path, tmp_path: Path) -> None:
    hook = script(directory / "start/10-say")
    found, places, _ = collected(directory)
    tree = tmp_path / "tree"
    tree.mkdir()
    assert Carried().is_in(tree) and not found.is_in(tree)
    found.write(tree)
    assert found.is_in(tree) and not Carried().is_in(tree)
    script(hook, "#!/bin/sh\n:\n")
    assert not collected(directory)[0].is_in(tree)
    script(hook)
    assert collected(directory)[0].is_in(tree)
    (tree / places[0]).chmod(0o644)
    assert not found.is_in(tree)


def test_modes_do_not_depend_on_the_umask(directory: Path, tmp_path: Path) -> None:
    script(directory / "start/10-say")
    found, places, _ = collected(directory)
    (tmp_path / "tree").mkdir()
    before = os.umask(0o077)
    try:
        found.write(tmp_path / "tree")
    finally:
        os.umask(before)
    for path in (places[0], "etc/finalstage/hooks", "usr/bin"):
        assert (tmp_path / "tree" / path).stat().st_mode & 0o777 == 0o755


def damage(at: int, by: bytes) -> bytes:
    """An ELF file in which something was overwritten."""
    return ELF[:at] + by + ELF[at + len(by) :]


ELF = Path("/usr/bin/true").read_bytes()
STARTS = st.sampled_from(
    [b"", b"#!", b"#!/bin/sh", b"#!/usr/bin/env ", b"#!/usr/bin/env -S ", b"\x7fELF"]
)
RESTS = st.one_of(
    st.binary(max_size=300),
    st.text("abc /\\'\"-=S\0\r\n").map(str.encode),
    st.builds(damage, st.integers(4, 900), st.binary()),
)


@settings(max_examples=300, deadline=None)
@given(STARTS, RESTS)
@example(b"#!/usr/bin/env -S ", b'"')
@example(b"", ELF)
def test_no_program_whatever_is_more_than_wrong(start: bytes, rest: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        hook = Path(place, "start/x")
        hook.parent.mkdir()
        hook.write_bytes(start + rest)
        hook.chmod(0o755)
        found, places, problems = collected(Path(place))
        assert len(places) + len(problems) == 1
        assert bool(found.contents) == bool(places)


# -- what is not ---------------------------------------------------------------------------------


def no_x(place: Path) -> None:
    script(place, mode=0o644)


def of_a_user(place: Path) -> None:
    os.chown(script(place), 1, 0)


def writable(place: Path) -> None:
    script(place, mode=0o775)


def empty(place: Path) -> None:
    script(place, "")


def text(place: Path) -> None:
    script(place, "echo no first line\n")


def without_interpreter(place: Path) -> None:
    script(place, "#!/bin/nowhere -e\n")


def with_a_relative_interpreter(place: Path) -> None:
    script(place, "#!sh\n")


def without_what_env_looks_for(place: Path) -> None:
    script(place, "#!/usr/bin/env nowhere\n")


def of_another_system(place: Path) -> None:
    script(place, "#!/bin/sh\r\n")


def with_an_interpreter_of_a_user(place: Path) -> None:
    interpreter = script(place.parents[2] / "interpreter")
    os.chown(interpreter, 1, 0)
    script(place, f"#!{interpreter}\n")


def for_musl_without_a_library(place: Path) -> None:
    folder = place.parents[2]
    (folder / "number.c").write_text(LIBRARY)
    (folder / "program.c").write_text("int number(void); int main(void) { return number(); }")
    library = folder / "libnumber.so"
    subprocess.run(["musl-gcc", "-shared", "-o", library, folder / "number.c"], check=True)
    linked = (f"-L{folder}", "-lnumber")
    subprocess.run(["musl-gcc", "-o", place, folder / "program.c", *linked], check=True)


def without_a_library(place: Path) -> None:
    program(place, place.parents[2] / "libraries")
    (place.parents[2] / "libraries/libnumber.so").unlink()


def with_another_library(place: Path) -> None:
    libraries = place.parents[2] / "libraries"
    program(place, libraries)
    (libraries / "libnumber.so").write_text("no library")


def damaged(place: Path) -> None:
    place.write_bytes(b"\x7fELF\x02\x01" + 50 * b"\xff")
    place.chmod(0o755)


def a_directory(place: Path) -> None:
    place.mkdir()


def a_pipe(place: Path) -> None:
    os.mkfifo(place, 0o755)


def a_link_to_nothing(place: Path) -> None:
    place.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_x, "not executable; chmod +x "),
        (of_a_user, "not root's, so it is not trusted; chown root "),
        (writable, "others than root can write to it; chmod go-w "),
        (empty, "empty; remove it, or write it"),
        (text, "neither a program nor a script; begin it with #!/bin/sh, or"),
        (without_interpreter, "its interpreter '/bin/nowhere' is not there; install it, or"),
        (with_a_relative_interpreter, "its interpreter 'sh' is not there; install it, or"),
        (without_what_env_looks_for, "its interpreter 'nowhere' is not there; install it in /usr"),
        (of_another_system, "its lines end in a carriage return; save it with the line ends of"),
        (with_an_interpreter_of_a_user, "BASE/interpreter: not root's, so it is not trusted; cho"),
        (without_a_library, "its library libnumber.so is not there; install it"),
        (for_musl_without_a_library, "its library libnumber.so is not there; install it"),
        (with_another_library, "it cannot be loaded: "),
        (damaged, "not an ELF file that makes sense; build or install it anew"),
        (a_directory, "not a regular file; put one in its place"),
        (a_pipe, "not a regular file; put one in its place"),
        (a_link_to_nothing, "a link to nothing; correct it, or remove it"),
    ],
)
def test_what_would_not_run_is_named_and_left_out(
    make: Callable[[Path], None], said: str, directory: Path, tmp_path: Path
) -> None:
    make(directory / "closed/10-bad")
    script(directory / "closed/20-good")
    found, places, problems = collected(directory)
    (problem,) = problems
    assert problem.startswith("closed/10-bad: " + said.replace("BASE", str(tmp_path)))
    assert places == ["etc/finalstage/hooks/closed/20-good"]
    alone = Carried()
    alone.add_program(directory / "closed/20-good", places[0])
    assert found.entries == alone.entries  # nothing is left of what did not work


def test_names_of_copies_are_passed_by_as_the_launcher_does(directory: Path) -> None:
    endings = re.search(r"endings\[\] = \{(.*?)\}", LAUNCHER.read_text(), re.S)
    assert endings
    assert sorted(re.findall(r'"(\S+)"', endings[1])) == sorted(hooks.BACKUPS)
    for name in (".hidden", "x~", *(f"x.{ending}" for ending in hooks.BACKUPS)):
        script(directory / "start" / name)
    script(directory / "start" / "old")
    _, places, problems = collected(directory)
    assert (places, problems) == (["etc/finalstage/hooks/start/old"], [])


def test_they_are_in_the_order_in_which_they_run(directory: Path) -> None:
    for name in ("20-b", "9", "10-c", "Z", "ä"):
        script(directory / "last" / name)
    _, places, _ = collected(directory)
    assert [Path(place).name for place in places] == ["10-c", "20-b", "9", "Z", "ä"]


def test_other_folders_are_no_moments(directory: Path) -> None:
    (directory / "closd").mkdir()
    script(directory / "loose")
    script(directory / "README", mode=0o644)
    _, places, problems = collected(directory)
    remedy = "not the folder of a moment; it may be start, closed, last"
    assert (places, problems) == ([], [f"closd: {remedy}", f"loose: {remedy}"])


@pytest.mark.parametrize("which", [".", "start"])
def test_a_directory_that_others_can_change_is_not_trusted(which: str, directory: Path) -> None:
    script(directory / "start/x")
    (directory / which).chmod(0o777)
    _, places, problems = collected(directory)
    place = f"{directory}" if which == "." else "start"
    (problem,) = problems
    assert problem.startswith(f"{place}: others than root can write to it; chmod go-w")
    assert places == []


def test_no_directory_is_no_problem(tmp_path: Path) -> None:
    assert collected(tmp_path / "none")[1:] == ([], [])


def test_a_moment_may_not_have_too_many(directory: Path) -> None:
    most = re.search(r"#define MOST_HOOKS (\d+)", LAUNCHER.read_text())
    assert most and int(most[1]) == hooks.MOST
    for number in range(hooks.MOST + 1):
        script(directory / f"start/{number:03}")
    _, places, problems = collected(directory)
    assert len(places) == hooks.MOST
    assert problems == [
        "start/064: one more than the 64 that a moment may have; put some into one program"
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/proc/version", "/proc/version cannot be carried: the tree has its own"),
        ("/dev/null", "/dev/null cannot be carried"),
        ("/usr/lib/finalstage/stage", "/usr/lib/finalstage/stage cannot be carried"),
        ("/etc/finalstage/hooks/start/x", "/etc/finalstage/hooks/start/x cannot be carried"),
        ("/nowhere", "/nowhere is not there"),
        ("BASE/of-a-user", "BASE/of-a-user: not root's"),
        ("BASE/circle", "BASE/circle leads through too many links"),
        ("BASE/folder", "BASE/folder/pipe: not a regular file"),
        ("BASE/large", "BASE/large: too large"),
    ],
)
def test_what_cannot_be_listed(path: str, said: str, tmp_path: Path) -> None:
    os.chown(script(tmp_path / "of-a-user"), 1, 0)
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("x")
    os.mkfifo(tmp_path / "folder/pipe", 0o644)
    with (tmp_path / "large").open("wb") as large:
        large.truncate(files.MOST + 1)
    found = Carried()
    with pytest.raises(WrongError) as wrong:
        found.add(Path(path.replace("BASE", str(tmp_path))))
    assert str(wrong.value).startswith(said.replace("BASE", str(tmp_path)))
    assert wrong.value.remedy
    assert found == Carried()


def test_all_together_must_not_be_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST", 1000)
    found = Carried()
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(400))
    found.add(tmp_path / "a")
    found.add(tmp_path / "b")
    with pytest.raises(WrongError, match="too large, with all else"):
        found.add(tmp_path / "c")
    assert found.total == 800


def test_what_is_read_of_elf_files_is_what_pyelftools_reads() -> None:
    """Of all programs of this machine: a control for our own few lines."""
    interpreters = set()
    for path in sorted(Path("/usr/bin").iterdir()):
        data = path.read_bytes() if path.is_file() else b""
        if data.startswith(closure.ELF):
            with path.open("rb") as stream:
                segments = list(ELFFile(stream).iter_segments())
                found = [each for each in segments if isinstance(each, InterpSegment)]
                interpreter = [each.get_interp_name() for each in found]
            dynamic = any(segment["p_type"] == "PT_DYNAMIC" for segment in segments)
            assert closure.segments(data) == ("".join(interpreter), dynamic), path
            interpreters |= set(interpreter)
    assert "/lib64/ld-linux-x86-64.so.2" in interpreters


def test_the_places_that_are_taken_are_those_of_the_tree() -> None:
    """Whatever lies in the tree cannot be carried into it."""
    root = Path(__file__).resolve().parents[2] / "dist/tree"
    names = {path.name for path in root.iterdir()} - {"usr", "tmp"}
    assert names <= {*carried.OURS, *carried.COVERED}
    assert [path.name for path in (root / "usr/lib").iterdir()] == ["finalstage"]
