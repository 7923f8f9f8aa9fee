"""The file on a vfat file system in which the report is kept: on which device that is.

The tree has to be told: at boot it may be staged before that is mounted, and systemd has unmounted
it when the stage begins. So fstab(5) is asked first, and then the mounts.
"""

from __future__ import annotations

import os
import stat

from finalstage import vfat
from finalstage.cli import fstab
from finalstage.cli.problems import WrongError
from finalstage.cli.targets import TAGS
from finalstage.handover.options import is_path
from finalstage.kernel import Kernel

REMEDY = "name a file on the EFI system partition, or a partition of its own in /dev/disk"


def told(kernel: Kernel, place: str) -> str:
    """Return a place as the tree is told of it: ``DEVICE//PATH`` for a file. Raises WrongError if
    it is one that no report can be kept in."""
    if place[:1] != "/" or vfat.WITHIN in place or place.startswith("/dev/") or _is_block(place):
        return place
    path = os.path.realpath(place)
    try:
        found = _by_fstab(path) or _by_mounts(kernel, path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WrongError(f"no report can be kept in {place}: {reason}", REMEDY) from error
    if os.path.isdir(path):
        raise WrongError(f"no report can be kept in {place}: it is a directory", REMEDY)
    if not is_path(found):
        raise WrongError(f"no report can be kept in {place}: {found} has a : in it", REMEDY)
    return found


def unmounted(place: str) -> str:
    """Return the mount point of the vfat file system that a place is to be on, but is not now, as
    that is not mounted; or ""."""
    entry = _line(os.path.realpath(place))
    if entry is None or entry.fstype != vfat.KIND or os.path.ismount(entry.target):
        return ""
    return entry.target


def is_on_vfat(kernel: Kernel, place: str) -> bool:
    """Whether a place is that of a file on a vfat file system which is mounted."""
    try:
        return bool(vfat.find(kernel, os.path.realpath(place)))
    except OSError:
        return False


def _is_block(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)  # where it is mounted on demand, it is now
    except OSError:
        return False


def _line(path: str) -> fstab.Entry | None:
    """Return the line of fstab(5) that mounts something nearest above a path."""
    above = [entry for entry in fstab.read() if path.startswith(f"{entry.target}/")]
    return max(above, key=lambda entry: (len(entry.target), entry.number), default=None)


def _by_fstab(path: str) -> str:
    entry = _line(path)
    if entry is None or entry.fstype != vfat.KIND:
        return ""
    tag, _, value = entry.source.partition("=")
    device = entry.source
    if tag in TAGS:
        device = f"/dev/disk/{TAGS[tag]}/" + value.strip('"')
    return f"{device}{vfat.WITHIN}{path[len(entry.target) + 1 :]}"


def _by_mounts(kernel: Kernel, path: str) -> str:
    device, file = vfat.find(kernel, path)
    name = os.path.basename(kernel.readlink(f"/sys/dev/block/{device}")).replace("!", "/")
    return f"/dev/{name}{vfat.WITHIN}{file.lstrip('/')}"
