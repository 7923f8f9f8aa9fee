"""The frozen stage starts with nothing but its tree to be seen, and maps nothing else."""

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finalstage import __version__

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "dist/tree"
STAGE = "/usr/lib/finalstage/stage"

# Mounts exist in a mount namespace of its own, which ends with the process: nothing is left behind.
AS_ROOT = ["unshare", "--mount"]
AS_USER = ["unshare", "--user", "--map-root-user", "--mount"]
IN_TREE = """
mount -t tmpfs -o mode=755 tree "$1" && cp -a "$2/." "$1" && cd "$1" || exit
if [ "$3" = proc ]; then mount --rbind /proc proc || exit; fi
shift 3
exec env -i "$(command -v chroot)" . "$@"
"""


@contextmanager
def in_tree(
    tmp_path: Path, proc: str, stdout: int, *command: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command with a copy of the tree on a tmpfs as its root, and an empty environment."""
    namespace = AS_ROOT if os.geteuid() == 0 else AS_USER
    script = [*namespace, "sh", "-c", IN_TREE, "sh", str(tmp_path), str(TREE), proc, *command]
    with subprocess.Popen(
        script, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("proc", ["proc", "no-proc"])
def test_it_starts_alone(tmp_path: Path, proc: str) -> None:
    with in_tree(tmp_path, proc, subprocess.PIPE, STAGE, "--version") as process:
        out, err = process.communicate(timeout=20)
    assert (out.decode(), err.decode()) == (f"finalstage {__version__}\n", "")
    assert process.returncode == 0


def test_all_that_it_maps_and_opens_is_in_the_tree(tmp_path: Path) -> None:
    """A full pipe stops it in its first write: by then it has imported all that it ever will."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        room = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.write(writer, bytes(room))
        os.set_blocking(writer, True)
        with in_tree(tmp_path, "proc", writer, STAGE, "--version") as process:
            where = Path(f"/proc/{process.pid}")
            wait_for_blocked_write(process)
            tree_device = (where / "root").stat().st_dev
            files = mapped_files(where)
            opened = sorted(path.name for path in (where / "fd").iterdir())
            assert any("libpython" in name for name, _ in files)
            assert any("_linux" in name for name, _ in files)
            assert [name for name, device in files if device != tree_device] == []
            assert opened == ["0", "1", "2"]
    finally:
        os.close(reader)
        os.close(writer)


def wait_for_blocked_write(process: subprocess.Popen[bytes]) -> None:
    """Returns when the stage, as this process, is in write(1, ...)."""
    where = Path(f"/proc/{process.pid}")
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        now = (where / "syscall").read_text().split()
        if now[:2] == ["1", "0x1"] and (where / "comm").read_text() == "stage\n":
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"it never wrote anything: {process.communicate()[1].decode()}")


def mapped_files(where: Path) -> list[tuple[str, int]]:
    """Name and device number of every file that a process has mapped (proc_pid_maps(5))."""
    found = []
    for line in (where / "maps").read_text().splitlines():
        _, _, _, device, inode, *name = line.split(maxsplit=5)
        if inode != "0":
            major, minor = (int(number, 16) for number in device.split(":"))
            found.append((name[0], os.makedev(major, minor)))
    return found
