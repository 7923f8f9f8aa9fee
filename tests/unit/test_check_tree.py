"""What `finalstage check` says of the tree in memory. A small payload stands for the real one."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from finalstage.cli.check import tree as check_tree
from finalstage.cli.check import verb
from finalstage.cli.check.readiness import OK, PROBLEM, UNKNOWN, WARNING, Finding, some
from finalstage.cli.problems import Problem
from finalstage.cli.staged import payload, staging, tree_owner
from finalstage.cli.staged.carried import Carried
from finalstage.cli.staged.payload import Entry, PayloadError
from finalstage.mountinfo import Entry as Mount
from tests.unit.files_kernel import machine

PATHS = ("finalstage", "usr", "usr/stage")


def mounted(place: Path, source: str = "finalstage", options: str = "rw") -> Mount:
    """A line of mountinfo."""
    return Mount(9, 1, "0:9", "/", str(place), options, "tmpfs", source, "rw")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree that is whole, mounted at the usual place; it starts."""
    root = tmp_path / "tree"
    (root / "usr").mkdir(parents=True)
    (root / "finalstage").write_text("launcher")
    (root / "usr/stage").write_text("stage")
    folder = tmp_path / "payload"
    folder.mkdir()
    lines = (Entry.of(root, path).line() for path in PATHS)
    (folder / payload.MANIFEST).write_text("\n".join(lines))
    monkeypatch.setattr(payload, "payload_dir", lambda: folder)
    monkeypatch.setattr(check_tree, "USUAL", root)
    monkeypatch.setattr(staging, "mount_at", mounted)
    monkeypatch.setattr(staging, "start_once", lambda descriptor: None)
    return root


def look(carried: Carried | None = None, as_root: bool = True, **options: object) -> list[Finding]:
    """What is found."""
    of = machine(as_root=as_root, **options)  # type: ignore[arg-type]
    if carried:
        of.setup.carried.entries, of.setup.carried.contents = carried.entries, carried.contents
    return list(check_tree.look(of))


def problems(found: list[Finding]) -> list[str]:
    """Those that are problems, by their names; each has a remedy."""
    assert all(each.remedy for each in found if each.verdict != OK)
    return [each.name for each in found if each.verdict == PROBLEM]


def test_all_is_well(tree: Path) -> None:
    found = look()
    names = ["tree", "current", "start", "closure", "memory"]
    assert [(each.name, each.verdict) for each in found] == [(name, OK) for name in names]
    assert "all 3 paths" in found[0].found


def cut(root: Path) -> None:
    (root / "usr/stage").write_text("st")


def lost(root: Path) -> None:
    (root / "finalstage").unlink()


def another_mode(root: Path) -> None:
    (root / "finalstage").chmod(0o600)


@pytest.mark.parametrize("damage", [cut, lost, another_mode])
def test_a_damaged_tree_is_named_with_what_is_damaged(
    tree: Path, damage: Callable[[Path], None]
) -> None:
    damage(tree)
    found = look()
    assert [each.name for each in found] == ["tree", "memory"]
    assert problems(found) == ["tree"]
    assert ("usr/stage" if damage is cut else "finalstage") in found[0].found
    assert found[0].remedy == "finalstage stage"


def test_many_paths_are_counted(tree: Path) -> None:
    shutil.rmtree(tree)
    (tree / "usr").mkdir(parents=True)
    assert "usr/stage" in look()[0].found
    assert some(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (lambda place: None, "nothing is staged at"),
        (lambda place: mounted(place, "theirs"), "is not finalstage's: tmpfs theirs"),
        (lambda place: mounted(place, options="rw,noexec"), "is mounted noexec"),
    ],
)
def test_what_is_mounted_there(
    tree: Path, mount: Callable[[Path], Mount | None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "mount_at", mount)
    found = look()
    assert problems(found) == ["tree"]
    assert words in found[0].found


def test_a_tree_of_somebody_elses_without_a_mount(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "mount_at", lambda place: None)
    (tree / "shutdown").write_text("theirs")
    assert "has a tree of shutdown that is not finalstage's" in look()[0].found


def test_the_place_is_left_to_another(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_tree, "other_tree", lambda directory, options: "dracut")
    (finding,) = look()
    assert finding.verdict == PROBLEM and "left to dracut" in finding.found
    assert 'shutdown-tree = "finalstage"' in finding.remedy
    assert tree_owner.other_tree(tree, machine().setup.configuration.options) == ""


def test_a_change_of_what_is_carried_is_noticed(tree: Path) -> None:
    carried = Carried()
    carried.put("etc/finalstage.conf", b"width=8\n", 0o644)
    found = look(carried)
    assert problems(found) == ["current"]
    assert "etc/finalstage.conf" in found[1].found
    carried.write(tree)
    assert problems(look(carried)) == []
    assert "what is not set up" in next(x.found for x in look() if x.name == "current")


def test_a_tree_that_does_not_start(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> None:
        raise PayloadError("the tree does not start: status 127")

    monkeypatch.setattr(staging, "start_once", fails)
    assert problems(look()) == ["start"]


def test_who_is_not_root_is_told_what_cannot_be_seen(tree: Path) -> None:
    unknown = [each for each in look(as_root=False) if each.verdict == UNKNOWN]
    assert [each.name for each in unknown] == ["start", "closure"]
    assert all("root sees more" in each.remedy for each in unknown)


def test_what_only_root_may_read_of_the_setup_is_unknown(tree: Path) -> None:
    denied = Problem("/etc/finalstage.toml", 0, "cannot be read: permission denied", "chmod")
    for as_root, verdict in ((False, UNKNOWN), (True, PROBLEM)):
        of = machine(as_root=as_root)
        of = dataclasses.replace(of, setup=dataclasses.replace(of.setup, problems=(denied,)))
        assert [each.verdict for each in verb.check_setup(of)] == [verdict]
        (current,) = (each for each in check_tree.look(of) if each.name == "current")
        assert current.verdict == (UNKNOWN if verdict == UNKNOWN else OK)


def test_closure_is_not_looked_for_in_a_tree_that_is_older(tree: Path) -> None:
    carried = Carried()
    carried.add_program(Path("/usr/bin/true"), "etc/hooks/true")
    assert "closure" not in [each.name for each in look(carried)]
    carried.write(tree)
    assert problems(look(carried)) == []


def test_no_payload_to_compare_with(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise PayloadError("there is no tree")

    monkeypatch.setattr(payload, "payload_dir", none)
    (finding,) = look()
    assert (finding.name, finding.verdict, finding.remedy) == ("tree", UNKNOWN, "run make dist")


@pytest.mark.parametrize(("free", "verdict"), [(None, UNKNOWN), (1 << 20, WARNING), (1 << 30, OK)])
def test_memory_to_stage_anew(
    tree: Path, free: int | None, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "available_memory", lambda: free)
    assert look()[-1].verdict == verdict


# -- closure ---------------------------------------------------------------------------------------


def in_tree(tmp_path: Path, *without: str) -> list[str]:
    """What `true` and a script miss in a tree that carries them, but for some of its files."""
    carried = Carried()
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    carried.add_program(Path("/usr/bin/true"), "etc/hooks/true")
    carried.add_program(script, "etc/hooks/script")
    root = tmp_path / "root"
    root.mkdir()
    carried.write(root)
    for name in without:
        for path in root.rglob(name):
            path.unlink()
    descriptor = os.open(root, os.O_RDONLY)
    try:
        return check_tree.in_root(descriptor, carried)
    finally:
        os.close(descriptor)


def test_programs_find_all_in_the_tree(tmp_path: Path) -> None:
    assert in_tree(tmp_path) == []


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    found = in_tree(tmp_path, "libc.so.6")
    assert any(each.startswith("/etc/hooks/true: its library libc.so.6") for each in found)


def test_a_script_that_nobody_executes_needs_no_interpreter(tmp_path: Path) -> None:
    carried = Carried()
    carried.put("etc/odd", b"#!/nowhere", 0o644)
    carried.put("etc/cut", b"\x7fELF", 0o755)
    assert list(check_tree._unmet(carried)) == ["/etc/cut: not an ELF file that makes sense"]


def test_an_interpreter_that_is_missing_is_named(tmp_path: Path) -> None:
    found = in_tree(tmp_path, "sh", "dash")
    assert "/etc/hooks/script: its interpreter '/bin/sh' is not there" in found
    assert Path("/bin/sh").exists()
