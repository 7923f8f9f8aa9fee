"""`finalstage unpack`, and what is done with that tree in a machine: `shutdown --stage`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from finalstage import __version__
from finalstage.cli.staged import payload

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "dist" / "finalstage"
AS_USER = "setpriv --reuid=65534 --regid=65534 --clear-groups"
FAILING = """
import sys
from pathlib import Path
from finalstage import cli
from finalstage.cli.staged import payload
"""
DAMAGED = "payload.write_tree = lambda root: (root / 'run').mkdir()"


def shell(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root, in a mount namespace of its own with an empty /mnt."""
    prepare = "mount -t tmpfs -o mode=777,size=32m tmpfs /mnt; "
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", prepare + script],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def refused(ran: subprocess.CompletedProcess[str]) -> str:
    """Return the one line on standard error that says why a script's last command refused."""
    assert ran.returncode == 1, ran.stdout
    (line,) = ran.stderr.splitlines()
    return line


def test_it_is_the_very_tree_and_starts(tmp_path: Path) -> None:
    there = tmp_path / "not" / "yet"
    ran = shell(f"{TOOL} unpack {there}; chroot {there} /shutdown --version")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1:] == [f"finalstage {__version__}"]
    assert payload.differences(there) == []
    assert sorted(path.name for path in there.iterdir()) == sorted(
        entry.path for entry in payload.read_manifest() if "/" not in entry.path
    )
    assert there.stat().st_mode & 0o777 == 0o755


def test_anybody_can_with_any_umask_and_twice(tmp_path: Path) -> None:
    ran = shell(
        f"{AS_USER} sh -euc 'umask 077; {TOOL} unpack /mnt/new; {TOOL} unpack /mnt/new';"
        f"cp -a /mnt/new {tmp_path}"
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1] == (
        "finalstage: /mnt/new holds the final stage already, complete"
    )
    assert payload.differences(tmp_path / "new") == []
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("prepare", "where", "said", "left"),
    [
        ("echo mine >/mnt/mine", "/mnt", "not empty; choose an empty or new one", "mine"),
        ("mount -o remount,size=1m /mnt", "/mnt", "No space left on device", ""),
        ("mount -o remount,size=1m /mnt", "/mnt/new", "No space left on device", ""),
        ("echo mine >/mnt/file", "/mnt/file", "File exists", "file"),
        ("mount -o remount,ro /mnt", "/mnt/new", "Read-only file system", ""),
    ],
    ids=["not empty", "no space", "no space, new", "a file in the way", "read-only"],
)
def test_failure_is_one_line_and_leaves_what_was_there(
    prepare: str, where: str, said: str, left: str
) -> None:
    ran = shell(f"{prepare}; {TOOL} unpack {where} || {{ ls -A /mnt; exit 1; }}")
    line = refused(ran)
    assert line.startswith(f"finalstage: cannot unpack into {where}: ")
    assert said in line
    assert ran.stdout.split() == left.split()


def test_without_a_right_to_write_there(tmp_path: Path) -> None:
    line = refused(shell(f"{AS_USER} {TOOL} unpack /usr/new"))
    assert "Permission denied" in line and "that you may write to" in line


def test_what_does_not_match_the_manifest_is_taken_away(tmp_path: Path) -> None:
    code = f"{FAILING}{DAMAGED}\nsys.exit(cli.main(['unpack', '/mnt/new']))"
    ran = shell(f"{sys.executable} -c {code!r} || {{ ls -A /mnt; exit 1; }}".replace("\\n", "\n"))
    assert "what was written differs" in refused(ran)
    assert ran.stdout == ""


# What an initramfs does before it switches the root: /run is noexec, and something is there.
STAMPED = """
mkdir /mnt/lib; cp -a dist/tree /mnt/lib/tree
mount -t tmpfs -o noexec tmpfs /run
mkdir -m 700 /run/initramfs /run/initramfs/log
echo root >/run/initramfs/fsck-root; echo words >/run/initramfs/log/boot; mkfifo /run/initramfs/pipe
: >/run/initramfs/.need_shutdown; : >/run/initramfs/finalstage
mkdir /run/initramfs/run; echo kept >/run/initramfs/run/kept
"""
STAGE = "/mnt/lib/tree/shutdown --stage /run/initramfs"


def test_stages_into_a_tmpfs_that_can_be_executed_and_keeps_what_was_there(tmp_path: Path) -> None:
    ran = shell(
        f"{STAMPED}{STAGE}; {STAGE}; chroot /run/initramfs /shutdown --version;"
        f"findmnt -no SOURCE,FSTYPE /run/initramfs; rm -r /mnt/lib; cp -a /run/initramfs {tmp_path}"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["finalstage", __version__, "finalstage", "tmpfs"]
    staged = tmp_path / "initramfs"
    assert payload.differences(staged) == []
    assert staged.stat().st_mode & 0o777 == 0o755
    assert (staged / "fsck-root").read_text() == "root\n"
    assert (staged / "log/boot").read_text() == "words\n"
    assert (staged / "run/kept").read_text() == "kept\n"
    # dracut-initramfs-restore would unpack dracut's own tree over it.
    assert not (staged / ".need_shutdown").exists()


def test_another_shutdown_tree_there_is_covered() -> None:
    ran = shell(
        f"{STAMPED}: >/run/initramfs/shutdown; {STAGE}; chroot /run/initramfs /shutdown --version;"
        "ls /run/initramfs/fsck-root"
    )
    assert ran.stdout == f"finalstage {__version__}\n"
    assert "fsck-root" in ran.stderr


def test_finalstage_stage_takes_it_for_its_own() -> None:
    ran = shell(f"{STAMPED}{STAGE}; {TOOL} stage; echo x >>/run/initramfs/finalstage; {TOOL} stage;"
                "findmnt -no SOURCE /run/initramfs")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "staged already" in ran.stdout.splitlines()[0]
    assert ran.stdout.splitlines()[2:] == ["finalstage"]


@pytest.mark.parametrize(
    ("prepare", "how", "said"),
    [
        ("mkdir /run/initramfs/live; mount -t tmpfs live /run/initramfs/live", STAGE, "below it"),
        ("", f"{AS_USER} {STAGE}", "Permission denied"),
        ("rm -r /run/initramfs; : >/run/initramfs", STAGE, "Not a directory"),
        ("", STAGE.replace("/run/initramfs", "initramfs"), "whole path"),
        ("mount --bind /mnt/meminfo /proc/meminfo", STAGE, "No space left on device"),
        ("", "chroot /mnt/lib/tree /shutdown --stage /run", "the tree is the root directory"),
    ],
    ids=["a mount below", "no right", "a file", "relative", "no memory", "the root itself"],
)
def test_where_it_cannot_stage_all_is_as_before(prepare: str, how: str, said: str) -> None:
    ran = shell(
        f"{STAMPED}echo 'MemAvailable: 9000 kB' >/mnt/meminfo; {prepare}\n"
        f"mount >/mnt/before; {how} || {{ mount | diff /mnt/before - ; exit 1; }}"
    )
    line = refused(ran)
    assert line.startswith("finalstage: cannot stage into ")
    assert said in line
    assert ran.stdout == ""
