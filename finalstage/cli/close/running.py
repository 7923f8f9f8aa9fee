"""What the running system stands on: mounts that it cannot do without."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from finalstage.layers.mount import Mount
from finalstage.stack import Stack

WHOLE = "finalstage closes it when the machine goes down"
ANYWAY = "--running-system closes it all the same"

PLACES = (
    *("/bin", "/boot", "/dev", "/etc", "/gnu", "/lib", "/lib64", "/nix", "/proc", "/run"),
    *("/run/initramfs", "/sbin", "/sys", "/usr", "/var"),
)
"""Where a running system finds itself: hier(7), and the stores of NixOS and Guix. In
/run/initramfs lies what it goes down by."""


@dataclass(frozen=True)
class Need:
    """Why a mount is needed, and what to do about it. `is_absolute` is one that can in no way be
    closed by who needs it."""

    why: str
    remedy: str
    is_absolute: bool = False


def needs(stack: Stack, program: str = sys.executable, folder: str = "") -> dict[str, Need]:
    """Return the mounts that are needed, by their ids: the running system's, the one that this
    `program` lies on, and the one that it works in, `folder` or what that is."""
    found: dict[str, Need] = {}
    mounts = [layer for layer in stack.layers if isinstance(layer, Mount)]
    for path in PLACES:
        for mount in _at(mounts, path):
            found[mount.id] = Need("part of the running system", ANYWAY)
    for mount in _holding(mounts, folder or working_directory()):
        found[mount.id] = Need("where this command works", "`cd /` first", is_absolute=True)
    for mount in _holding(mounts, os.path.realpath(program)):
        remedy = "copy it to where it may stay, such as /run"
        found[mount.id] = Need("where this program lies", remedy, is_absolute=True)
    for mount in _at(mounts, "/"):
        found[mount.id] = Need("the root file system", WHOLE, is_absolute=True)
    return found


def working_directory() -> str:
    """Return it, or "/" where it has no name any more."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


def _at(mounts: Iterable[Mount], path: str) -> list[Mount]:
    """Return the uppermost mount at a place, if there is one."""
    return [mount for mount in mounts if mount.target == path][-1:]


def _holding(mounts: Iterable[Mount], path: str) -> list[Mount]:
    """Return the mount that a path lies on."""
    found: list[Mount] = []
    for mount in mounts:
        target = mount.target.rstrip("/")
        if f"{path}/".startswith(f"{target}/") and (
            not found or len(target) >= len(found[0].target.rstrip("/"))
        ):
            found = [mount]
    return found
