"""Device nodes and links of what has been closed: udev removes them, or we where there is none.

The kernel tells udev that a device is gone, and udev removes the links that its database knows of:
no rule has to run, and nobody waits for a cookie as the device mapper's tools do. Without udev
these tools have made nodes and links themselves, and remove them themselves: _rm_dev_node() in
libdm's libdm-common.c, fs_del_lv() in lib/activate/fs.c of lvm2.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterable, Mapping
from pathlib import Path

from finalstage.cli.targets import shown
from finalstage.kernel import Kernel
from finalstage.world import describe

DEV = "/dev"
CONTROL, QUEUE, DATA = "/run/udev/control", "/run/udev/queue", "/run/udev/data"
"""udev's socket, which is there while it runs; a file that is there while it has events to handle;
and what it knows of each device, a file each."""

SETTLE_SECONDS, LOOK_SECONDS = 10.0, 0.05
"""How long udev may take, and how often to look."""

DEEPEST = 3
"""How many folders down in /dev there are links to block devices: /dev/disk/by-uuid/…"""


def names() -> dict[str, str]:
    """Return all nodes of block devices in /dev and links to them, with the devices' numbers."""
    found: dict[str, str] = {}
    _gather(DEV, os.stat(DEV).st_dev, DEEPEST, found)
    return found


def _gather(folder: str, file_system: int, deeper: int, found: dict[str, str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                about = entry.stat()
                if modes.S_ISBLK(about.st_mode):
                    found[entry.path] = f"{os.major(about.st_rdev)}:{os.minor(about.st_rdev)}"
                elif entry.is_dir(follow_symlinks=False) and about.st_dev == file_system and deeper:
                    _gather(entry.path, file_system, deeper - 1, found)
            except OSError:
                continue  # it has just gone, or leads nowhere


def by_number(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the names of each device."""
    found: dict[str, list[str]] = {}
    for path, device in names.items():
        found.setdefault(device, []).append(path)
    return found


def settle(kernel: Kernel, names: Mapping[str, str], devices: Iterable[str]) -> list[str]:
    """Wait until udev knows that devices have gone, if there is an udev, and remove what is left of
    their names in /dev. Return what was left by it, and what could not be removed, a line each."""
    found = []
    wanted = set(devices)
    ours = {path: device for path, device in names.items() if device in wanted}
    if _there(CONTROL):
        until = kernel.now() + SETTLE_SECONDS
        while (why := _unsettled(ours, wanted)) and kernel.now() < until:
            kernel.sleep(LOOK_SECONDS)
        if why:
            found.append(f"udev is not done after {SETTLE_SECONDS:.0f} s: {why}")
    for path, device in ours.items():
        if _is_stale(path, device):
            try:
                _remove(path)
            except OSError as error:
                found.append(f"cannot remove {shown(path)}: {describe(error)}")
    return found


def _unsettled(ours: Mapping[str, str], devices: Iterable[str]) -> str:
    """Return what udev has still to do, or ""."""
    if _there(QUEUE):
        return "it has more to do"
    for device in devices:
        if _is_gone(device) and _there(f"{DATA}/b{device}"):
            return f"it still knows a device {device}, which has gone"
    for path, device in ours.items():
        if _is_stale(path, device):
            return f"{shown(path)} is still there"
    return ""


def _is_stale(path: str, device: str) -> bool:
    """Whether a name of a device is still there though the device has gone. A link that leads to
    another one by now is right."""
    if not _is_gone(device):
        return False
    try:
        about = os.lstat(path)
        if modes.S_ISLNK(about.st_mode):
            about = os.stat(path)
    except FileNotFoundError:
        return os.path.islink(path)  # it leads nowhere, or is gone
    except OSError:
        return False
    return modes.S_ISBLK(about.st_mode) and about.st_rdev == os.makedev(
        *map(int, device.split(":"))
    )


def _is_gone(device: str) -> bool:
    return not _there(f"/sys/dev/block/{device}")


def _remove(path: str) -> None:
    """Remove a name, and its folder where that is of a volume group, or else was the last in it."""
    os.unlink(path)
    folder = Path(path).parent
    if folder.parent == Path(DEV) and folder.name not in ("disk", "mapper", "md"):
        try:
            folder.rmdir()
        except OSError:
            pass  # there are more in it


def _there(path: str) -> bool:
    return os.path.lexists(path)
