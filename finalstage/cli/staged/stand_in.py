"""`finalstage stage --stand-in`: has systemd execute the staged launcher in place of its own
systemd-shutdown.

The launcher is mounted on that program; no file on a disk is touched, and to unmount it is to undo
it. systemd would unmount it too, at umount.target, as every mount that it did not know before: a
drop-in in /run tells it not to. Source: mount_add_default_dependencies() in src/core/mount.c.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

from finalstage.cli.errors import RefusalError
from finalstage.cli.staged.staging import SOURCE, mount_at
from finalstage.kernel import tmpfs

PROGRAMS = (
    Path("/usr/lib/systemd/systemd-shutdown"),
    Path("/lib/systemd/systemd-shutdown"),
)
UNITS = Path("/run/systemd/system")
DROP_IN = "finalstage.conf"
CONTAINER = Path("/run/systemd/container")
SELINUX = Path("/sys/fs/selinux/enforce")
PATIENCE = 5
"""Seconds for systemctl, which answers at once."""

WITHOUT = "stage without --stand-in, then systemd-shutdown hands over"


def program() -> Path:
    """Return the program that can be stood in for. Raises RefusalError where there is none, or it
    must not be done."""
    found = next((each.resolve() for each in PROGRAMS if each.is_file()), None)
    if found is None:
        places = " or ".join(str(each) for each in PROGRAMS)
        raise RefusalError(f"cannot stand in for systemd-shutdown: there is no {places}")
    refusal = f"cannot stand in for {found}"
    if CONTAINER.exists():
        raise RefusalError(f"{refusal}: a container has nothing to close", WITHOUT)
    if SELINUX.is_file() and SELINUX.read_text().strip() == "1":
        # systemd stands still for ever if what it executes at the end cannot be executed.
        why = "SELinux is enforcing, and may forbid systemd to execute it"
        raise RefusalError(f"{refusal}: {why}", WITHOUT)
    entry = mount_at(found)
    if entry is not None and entry.source != SOURCE:
        raise RefusalError(f"{refusal}: something else is mounted there", f"umount {found}")
    return found


def is_stopping() -> bool:
    """Whether systemd is about to go down; by then no package brings a new systemd-shutdown."""
    if not UNITS.is_dir():
        return False
    try:
        ran = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ran.stdout.strip() == "stopping"


def standing() -> Path | None:
    """Return the program that is stood in for now, if any."""
    found = (each.resolve() for each in PROGRAMS if each.is_file())
    return next((each for each in found if is_covered(each)), None)


def is_covered(found: Path) -> bool:
    """Whether a launcher of ours is mounted there, of this tree or of an older one."""
    entry = mount_at(found)
    return entry is not None and entry.source == SOURCE


def stand_in(found: Path, directory: Path) -> str:
    """Mount the launcher of the tree in `directory` there, in place of an older one; return what
    was done in words. Raises RefusalError."""
    launcher = directory / "shutdown"
    if is_covered(found) and os.path.samefile(found, launcher):
        return f"stands in for {found} already"
    try:
        write_drop_in(found)
        mount = tmpfs.clone(str(launcher))
        try:
            detach_all(found)
            tmpfs.attach(mount, str(found))
        finally:
            tmpfs.release(mount)
    except OSError as error:
        remedy = "the kernel is older than 5.2" if error.errno == errno.ENOSYS else ""
        message = f"cannot stand in for {found}: {error.strerror} ({error.filename})"
        raise RefusalError(message, remedy) from error
    return f"stands in for {found}"


def step_down(found: Path) -> str:
    """Undo it; return what was done in words. Raises RefusalError."""
    try:
        detach_all(found)
        (drop_in_folder(found) / DROP_IN).unlink(missing_ok=True)
    except OSError as error:
        raise RefusalError(f"cannot stand in for {found} no longer: {error.strerror}") from error
    return f"stands in for {found} no longer"


def detach_all(found: Path) -> None:
    """Unmount every launcher of ours there."""
    while is_covered(found):
        tmpfs.detach(str(found))


def write_drop_in(found: Path) -> None:
    """Have systemd leave the mount alone, where systemd runs."""
    if UNITS.is_dir():
        folder = drop_in_folder(found)
        folder.mkdir(exist_ok=True)
        (folder / DROP_IN).write_text("[Unit]\nDefaultDependencies=no\n")


def drop_in_folder(found: Path) -> Path:
    """Return where systemd looks for drop-ins of the unit of a mount: systemd.unit(5)."""
    letters = ("-" if letter == "/" else escaped(letter) for letter in str(found).strip("/"))
    return UNITS / f"{''.join(letters)}.mount.d"


def escaped(letter: str) -> str:
    """Return a character of a path as it stands in the name of a unit."""
    if letter.isascii() and (letter.isalnum() or letter in ":_."):
        return letter
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
