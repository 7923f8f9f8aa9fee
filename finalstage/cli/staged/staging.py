"""`finalstage stage`: puts the tree into a tmpfs, ready for init to execute."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from finalstage import __version__, mountinfo
from finalstage.cli.errors import RefusalError
from finalstage.cli.staged import payload
from finalstage.cli.staged.carried import Carried
from finalstage.kernel import tmpfs

USUAL = Path("/run/initramfs")
"""Where systemd-shutdown looks for what to execute, and our hand-overs too."""

SOURCE = "finalstage"
"""What mountinfo names as the source of our tmpfs, and of whatever is mounted from it."""

SLACK = 4 * 1024 * 1024
"""Bytes of the tmpfs beyond the tree: for what systemd-shutdown, and hooks, make in it."""

PATIENCE = 40
"""Seconds for the tree to start once, which takes less than one. systemd's unit has 60."""

REMEDIES = {
    errno.ENOSPC: "free some memory",
    errno.ENOMEM: "free some memory",
    errno.EPERM: "run it as root, outside of a container",
    errno.EACCES: "see whether a security module or a noexec policy forbids programs in a tmpfs",
}


def stage(directory: Path, carried: Carried) -> str:
    """Stage into `directory` a tree that carries something, and return what was done in words.

    The tree is written into a tmpfs that nobody sees, compared with its manifest and started
    once; only then is it mounted. So whatever fails leaves what was there before. Raises
    RefusalError.
    """
    if os.geteuid() != 0:
        raise RefusalError(f"cannot stage into {directory}: it takes root", "use sudo")
    try:
        if is_staged(directory, carried):
            (directory / "verb").unlink(missing_ok=True)  # left by a shutdown that was given up
            return f"{directory} is staged already, and complete"
        size = payload.tree_size() + carried.size
        refuse_without_memory(directory, size + SLACK)
        return _stage(directory, carried, size)
    except OSError as error:
        reason = f"{error.strerror}" + (f" ({error.filename})" if error.filename else "")
        raise RefusalError(
            f"cannot stage into {directory}: {reason}", REMEDIES.get(error.errno or 0, "")
        ) from error
    except payload.PayloadError as error:
        raise RefusalError(f"cannot stage into {directory}: {error}") from error


def is_staged(directory: Path, carried: Carried) -> bool:
    """Whether the very tree of this build is mounted there, whole and able to start, and carries
    just that."""
    entry = mount_at(directory)
    if entry is None or entry.fstype != "tmpfs" or payload.differences(directory):
        return False
    if not carried.is_in(directory):
        return False
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        start_once(descriptor)
    except (OSError, payload.PayloadError):
        return False
    finally:
        os.close(descriptor)
    return True


def mount_at(directory: Path) -> mountinfo.Entry | None:
    """Return the topmost mount at a path."""
    place = str(directory.resolve())
    entries = mountinfo.parse(Path("/proc/self/mountinfo").read_bytes())
    return next((entry for entry in reversed(entries) if entry.target == place), None)


def refuse_without_memory(directory: Path, needed: int) -> None:
    """Raise RefusalError where so many bytes would take the machine's last memory."""
    available = available_memory()
    if available is not None and available < needed:
        raise RefusalError(
            f"cannot stage into {directory}: it needs {needed >> 20} MiB of memory and "
            f"{available >> 20} MiB are free",
            REMEDIES[errno.ENOSPC],
        )


def available_memory() -> int | None:
    """Return how many bytes could be had without swapping; None where the kernel does not tell."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _stage(directory: Path, carried: Carried, size: int) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    mount = tmpfs.create(size + SLACK)
    try:
        root = Path(f"/proc/self/fd/{mount}")
        payload.write_tree(root)
        carried.write(root)
        wrong = payload.differences(root)
        if wrong:
            raise payload.PayloadError(f"what was written differs: {wrong[0]}")
        if not carried.is_in(root):
            raise payload.PayloadError("what was written for this machine differs")
        start_once(mount)
        replace(directory, mount)
    finally:
        tmpfs.release(mount)
    return f"staged {size >> 10} KiB into {directory}"


def unstage(directory: Path) -> bool:
    """Unmount every tree of ours there; return whether there was one. Raises RefusalError."""
    found = False
    while (entry := mount_at(directory)) is not None and entry.source == SOURCE:
        try:
            tmpfs.detach(str(directory))
        except OSError as error:
            raise RefusalError(f"cannot unmount {directory}: {error.strerror}") from error
        found = True
    return found


def start_once(root: int) -> None:
    """Start launcher and stage with the tree as their root; raises if that does not work."""

    def enter() -> None:
        os.fchdir(root)
        os.chroot(".")

    # Nothing of our own environment, as at shutdown there is none of it.
    try:
        ran = subprocess.run(
            ["/shutdown", "--version"],
            preexec_fn=enter,
            env={},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise payload.PayloadError(f"the tree does not start in {PATIENCE} s") from error
    if ran.returncode != 0 or __version__ not in ran.stdout:
        said = (ran.stderr or ran.stdout).strip() or f"status {ran.returncode}"
        raise payload.PayloadError(f"the tree does not start: {said}")


def replace(directory: Path, mount: int) -> None:
    """Mount the new tree, in place of an older one of ours or on top of anything else."""
    entry = mount_at(directory)
    if entry is None or entry.source != SOURCE:
        tmpfs.attach(mount, str(directory))
        return
    old = tmpfs.copy(str(directory))
    try:
        tmpfs.detach(str(directory))
        try:
            tmpfs.attach(mount, str(directory))
        except OSError:
            tmpfs.attach(old, str(directory))
            raise
    finally:
        tmpfs.release(old)
