"""A tmpfs that is filled before anybody sees it: the file-descriptor mount API.

Only for staging: a mount that is complete or not there at all. Source: fsopen(2), fsmount(2),
move_mount(2), in Linux since 5.2.
"""

from __future__ import annotations

import posix

from finalstage.kernel._linux import lib
from finalstage.kernel.linux import check, encode


def create(size: int, mode: int = 0o755) -> int:
    """Return a descriptor of a new tmpfs of at most `size` bytes, mounted nowhere.

    Files in it are reached by openat(2), or below /proc/self/fd. When the descriptor is closed
    and it was not attached, it is gone. Devices, programs and set-uid bits work in it.
    """
    context = lib.sys_fsopen(b"tmpfs")
    check(context, "tmpfs")
    try:
        for key, value in (("size", str(size)), ("mode", f"{mode:o}"), ("source", "finalstage")):
            check(lib.sys_fsconfig_string(context, key.encode(), value.encode()), f"tmpfs {key}")
        check(lib.sys_fsconfig_create(context), "tmpfs")
        mount = lib.sys_fsmount(context)
        check(mount, "tmpfs")
        return mount
    finally:
        posix.close(context)


def attach(mount: int, directory: str) -> None:
    """Mount it at a directory, on top of what may be mounted there."""
    check(lib.sys_move_mount(mount, encode(directory)), directory)


def clone(directory: str) -> int:
    """Return a descriptor of a second mount, attached nowhere, of what is mounted there."""
    mount = lib.sys_open_tree(encode(directory))
    check(mount, directory)
    return mount


def detach(directory: str) -> None:
    """Unmount what is mounted at a directory; who still uses it may go on."""
    check(lib.umount2(encode(directory), lib.MNT_DETACH), directory)
