"""The launcher, mounted on another program and executed by whoever is not PID 1, is that program.

In a mount namespace of its own. It is given no arguments: a launcher that took itself for what was
asked for then says how it is to be called, and does nothing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "dist" / "tree" / "finalstage"
PROGRAM = '#!/bin/sh\necho "the original $0 $SAYING"\n'


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that says how it was executed, with a relative and an absolute link to it."""
    found = tmp_path / "sbin" / "init"
    found.parent.mkdir()
    found.write_text(PROGRAM)
    found.chmod(0o755)
    (found.parent / "telinit").symlink_to("init")
    (found.parent / "again").symlink_to(found)
    return found


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a private mount namespace."""
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", ["init", "telinit", "again"])
def test_what_it_covers_is_executed(program: Path, name: str) -> None:
    ran = run(f"mount --bind {LAUNCHER} {program}; SAYING=hello {program.parent}/{name}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("the original ") and ran.stdout.endswith(" hello\n")


def test_the_mount_stays(program: Path) -> None:
    ran = run(f"mount --bind {LAUNCHER} {program}; {program}; cmp {LAUNCHER} {program}; {program}")
    assert (ran.returncode, ran.stdout.count("the original")) == (0, 2)


def test_twice_mounted(program: Path) -> None:
    ran = run(f"mount --bind {LAUNCHER} {program}; mount --bind {LAUNCHER} {program}; {program}")
    assert (ran.returncode, ran.stdout.count("the original")) == (0, 1)


def test_by_itself_it_says_how_to_call_it(tmp_path: Path) -> None:
    copy = tmp_path / LAUNCHER.name
    copy.write_bytes(LAUNCHER.read_bytes())
    copy.chmod(0o755)
    for path in (LAUNCHER, copy):
        ran = run(str(path))
        assert ran.returncode == 2
        assert "say how" in ran.stderr


def test_where_the_original_cannot_be_executed_it_is_not_taken_for_ours(program: Path) -> None:
    """As before Linux 5.2: what is below the mount cannot be seen."""
    program.write_bytes(LAUNCHER.read_bytes())
    ran = run(f"{program}")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert f"cannot execute the original {program}" in ran.stderr
