"""`finalstage stage`, as root in a mount namespace of its own: nothing of it is seen outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.older import older

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "dist" / "finalstage"
PREPARE = """
import os, sys
from pathlib import Path
from finalstage import cli
from finalstage.cli.staged import payload
from finalstage.kernel import tmpfs
"""
NOEXEC = """
import subprocess
def create(size, mode=0o755):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", "/mnt"], check=True)
    return os.open("/mnt", os.O_RDONLY)
tmpfs.create = create
"""


LEFT = "echo /run/.finalstage-*; grep -c /run/.finalstage- /proc/self/mountinfo"
"""Says what was mounted aside and is still there: that of Linux before 5.2, and of a crash."""
NONE_LEFT = ["/run/.finalstage-*", "0"]


@pytest.fixture(params=["", "312"], ids=["now", "before Linux 3.2"])
def under(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, ...]:
    """What a script is run under: nothing, or a kernel without the newer ways to mount."""
    return older(tmp_path_factory.mktemp("older"), int(request.param)) if request.param else ()


def run(script: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a private mount namespace, with a /run of its own: what is mounted
    aside there would else be seen by tests beside this one."""
    script = f"mount -t tmpfs run /run\n{script}"
    return subprocess.run(
        [*under, "unshare", "--mount", "--propagation", "private", "sh", "-euc", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def python(code: str, directory: Path) -> str:
    """Return a command that runs the verb on a directory, after some code."""
    main = f"{PREPARE}{code}\nsys.exit(cli.main(['stage', {str(directory)!r}]))"
    return f"{sys.executable} - <<'END'\n{main}\nEND\n"


def test_stages_a_tree_that_starts(tmp_path: Path, under: tuple[str, ...]) -> None:
    there = tmp_path / "not" / "yet"
    ran = run(
        f"{TOOL} stage {there}; chroot {there} /shutdown --version; findmnt -no OPTIONS {there};"
        f"{LEFT} || true",
        under,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"into {there}" in ran.stdout
    assert "finalstage 0.1.0" in ran.stdout
    assert "noexec" not in ran.stdout and "nodev" not in ran.stdout
    assert ran.stdout.splitlines()[-2:] == NONE_LEFT


def test_twice_is_harmless(tmp_path: Path, under: tuple[str, ...]) -> None:
    twice = f"{TOOL} stage {tmp_path}; {TOOL} stage {tmp_path}"
    ran = run(f"{twice}; findmnt -no SOURCE {tmp_path}", under)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1:] == [
        f"finalstage: {tmp_path} is staged already, and complete",
        "finalstage",
    ]


def test_a_damaged_tree_is_replaced(tmp_path: Path, under: tuple[str, ...]) -> None:
    ran = run(
        f"{TOOL} stage {tmp_path}; echo x >>{tmp_path}/finalstage; {TOOL} stage {tmp_path};"
        f"{TOOL} stage {tmp_path}; findmnt -no SOURCE {tmp_path}; {LEFT} || true",
        under,
    )
    assert ran.returncode == 0, ran.stderr
    assert "staged already" in ran.stdout.splitlines()[2]
    assert ran.stdout.splitlines()[3:] == ["finalstage", *NONE_LEFT]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("payload.tree_size = lambda: 1 << 20", "No space left on device"),
        (NOEXEC, "Permission denied"),
        ("tmpfs.create = lambda size: 1 / 0 if os.geteuid() else None\nos.setuid(65534)", "root"),
        ("payload.tree_size = lambda: 1 << 50", "MiB are free"),
    ],
    ids=["no space", "noexec", "no right", "no memory"],
)
def test_failure_is_one_line_and_leaves_the_old_state(
    code: str, said: str, tmp_path: Path, under: tuple[str, ...]
) -> None:
    tmp_path.chmod(0o755)
    old = f"mount -t tmpfs old {tmp_path}; echo old >{tmp_path}/shutdown;"
    failing = python(code, tmp_path)
    ran = run(f"{old}\nset +e\n{failing}echo status $?; cat {tmp_path}/shutdown; {LEFT}", under)
    assert ran.stdout.splitlines() == ["status 1", "old", *NONE_LEFT]
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"finalstage: cannot stage into {tmp_path}: ")
    assert said in line


FAIL_ONCE = """
real, fail = tmpfs.attach, [True]
def attach(mount, directory):
    if fail.pop() if fail else False:
        raise OSError(22, "Invalid argument")
    real(mount, directory)
tmpfs.attach = attach
"""


def test_an_older_tree_of_ours_comes_back_if_the_new_one_cannot_be_mounted(
    tmp_path: Path, under: tuple[str, ...]
) -> None:
    failing = python(FAIL_ONCE, tmp_path)
    ran = run(
        f"{TOOL} stage {tmp_path}; echo x >>{tmp_path}/finalstage\nset +e\n{failing}"
        f"echo status $?; tail -c 2 {tmp_path}/finalstage; findmnt -no SOURCE {tmp_path}; {LEFT}",
        under,
    )
    assert ran.stdout.splitlines()[1:] == ["status 1", "x", "finalstage", *NONE_LEFT], ran.stderr
    assert "Invalid argument" in ran.stderr


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    ran = run(f"{TOOL} stage {tmp_path}/file")
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert "File exists" in line


def test_usage() -> None:
    ran = run(f"{TOOL}")
    assert ran.returncode == 2
    assert "VERB" in ran.stderr
