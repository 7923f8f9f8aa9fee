"""A tmpfs that is filled before anybody sees it: the file-descriptor mount API.

Only for staging: a mount that is complete or not there at all. Source: fsopen(2), fsmount(2),
move_mount(2), in Linux since 5.2. On an older kernel it is mounted aside until it is complete.
"""

from __future__ import annotations

import posix
from errno import ENOSYS

from finalstage.kernel._linux import ffi, lib
from finalstage.kernel.linux import check, encode

ASIDE = "/run/.finalstage-"
"""What the directories begin with in which something is mounted aside."""


def create(size: int, mode: int = 0o755) -> int:
    """Return a descriptor of a new tmpfs of at most `size` bytes, mounted nowhere.

    Files in it are reached by openat(2), or below /proc/self/fd. When the descriptor is released
    and it was not attached, it is gone. Devices, programs and set-uid bits work in it.
    """
    options = (("size", str(size)), ("mode", f"{mode:o}"))
    context = lib.sys_fsopen(b"tmpfs")
    if context < 0 and ffi.errno == ENOSYS:
        data = ",".join(f"{key}={value}" for key, value in options)
        return _aside("finalstage", "tmpfs", 0, data)
    check(context, "tmpfs")
    try:
        for key, value in (*options, ("source", "finalstage")):
            check(lib.sys_fsconfig_string(context, key.encode(), value.encode()), f"tmpfs {key}")
        check(lib.sys_fsconfig_create(context), "tmpfs")
        mount = lib.sys_fsmount(context)
        check(mount, "tmpfs")
        return mount
    finally:
        posix.close(context)


def attach(mount: int, directory: str) -> None:
    """Mount it at a directory, on top of what may be mounted there."""
    if _place(mount).startswith(ASIDE):
        source = encode(f"/proc/self/fd/{mount}")
        check(lib.mount(source, encode(directory), ffi.NULL, lib.MS_BIND, ffi.NULL), directory)
    else:
        check(lib.sys_move_mount(mount, encode(directory)), directory)


def clone(path: str) -> int:
    """Return a descriptor of a second mount, attached nowhere, of what is mounted there. ENOSYS
    before Linux 5.2."""
    mount = lib.sys_open_tree(encode(path))
    check(mount, path)
    return mount


def copy(directory: str) -> int:
    """Return the same of what is mounted at a directory, also before Linux 5.2."""
    try:
        return clone(directory)
    except OSError as error:
        if error.errno != ENOSYS:
            raise
        return _aside(directory, "", lib.MS_BIND)


def detach(directory: str) -> None:
    """Unmount what is mounted at a directory; who still uses it may go on."""
    check(lib.umount2(encode(directory), lib.MNT_DETACH), directory)


def release(mount: int) -> None:
    """Close a descriptor; what is mounted nowhere else by now is gone."""
    place = _place(mount)
    posix.close(mount)
    if place.startswith(ASIDE):
        detach(place)
        posix.rmdir(place)


def _place(mount: int) -> str:
    """Return where it is mounted; some other path if that is nowhere."""
    return posix.readlink(f"/proc/self/fd/{mount}")


def _aside(source: str, fstype: str, flags: int, data: str = "") -> int:
    """Mount something in a directory that nobody looks for; return a descriptor of it."""
    place = _make_directory()
    try:
        kind = encode(fstype) if fstype else ffi.NULL
        text = ffi.new("char[]", encode(data))
        check(lib.mount(encode(source), encode(place), kind, flags, text), source)
    except OSError:
        posix.rmdir(place)
        raise
    return posix.open(place, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)


def _make_directory() -> str:
    number = 0
    while True:
        place = f"{ASIDE}{posix.getpid()}-{number}"
        try:
            posix.mkdir(place, 0o700)
            return place
        except FileExistsError:
            number += 1
