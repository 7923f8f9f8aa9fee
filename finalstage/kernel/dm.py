"""Device mapper's ioctls, wrapped: buffers in and out, return codes checked.

Every request goes by device number, since names and UUIDs may hold anything or be missing.
Source: <linux/dm-ioctl.h>, drivers/md/dm-ioctl.c.
"""

from __future__ import annotations

import posix

from finalstage.kernel import DmStatus, Target
from finalstage.kernel._linux import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEADER = ffi.sizeof("struct dm_ioctl")
SPEC = ffi.sizeof("struct dm_target_spec")
BUFFER = 16 * 1024
SPOKEN = frozenset(("multipath", "thin-pool"))
"""The types of target whose words are kept."""

LARGEST_BUFFER = 4 * 1024 * 1024


def split(device: str) -> tuple[int, int]:
    """Return major and minor of ``major:minor``."""
    major, _, minor = device.partition(":")
    return int(major), int(minor)


def encode(device: str) -> int:
    """Return a device number as dm wants it: new_encode_dev() in <linux/kdev_t.h>."""
    major, minor = split(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def text(array: Any) -> str:
    """Return a C string as text; odd bytes survive as surrogates."""
    return ffi.string(array).decode("utf-8", "surrogateescape")


def request(
    control: int,
    command: int,
    device: str,
    flags: int = 0,
    payload: bytes = b"",
    size: int = BUFFER,
    targets: int = 0,
) -> tuple[Any, Any]:
    """Send one request to /dev/mapper/control; return the buffer and its header.

    The buffer must be kept as long as the header is used. DM_SECURE_DATA_FLAG makes the kernel
    wipe its own copy of the buffer, in case there ever is a key in it.
    """
    buffer = ffi.new("char[]", max(size, HEADER + len(payload)))
    header = ffi.cast("struct dm_ioctl *", buffer)
    header.version[0] = lib.DM_VERSION_MAJOR
    header.data_size = ffi.sizeof(buffer)
    header.data_start = HEADER
    header.target_count = targets
    header.dev = encode(device)
    header.flags = flags | lib.DM_SECURE_DATA_FLAG
    ffi.memmove(buffer + HEADER, payload, len(payload))
    if lib.ioctl(control, command, buffer) < 0:
        raise OSError(ffi.errno, posix.strerror(ffi.errno), device)
    return buffer, header


def status(control: int, device: str) -> DmStatus:
    """Return header and segments of the live table; the buffer grows until all segments fit."""
    size = BUFFER
    while True:
        buffer, header = request(
            control, lib.DM_TABLE_STATUS, device, flags=lib.DM_NOFLUSH_FLAG, size=size
        )
        if not header.flags & lib.DM_BUFFER_FULL_FLAG or size >= LARGEST_BUFFER:
            break
        size *= 4
    return info_of(header, segments(buffer, header))


def info(control: int, device: str) -> DmStatus:
    """Return the header alone, for which no target is asked: dev_status()."""
    _buffer, header = request(control, lib.DM_DEV_STATUS, device)
    return info_of(header)


def info_of(header: Any, targets: tuple[Target, ...] = ()) -> DmStatus:
    """Return what a header says, and the segments that were asked for."""
    return DmStatus(
        name=text(header.name),
        uuid=text(header.uuid),
        open_count=header.open_count,
        suspended=bool(header.flags & lib.DM_SUSPEND_FLAG),
        readonly=bool(header.flags & lib.DM_READONLY_FLAG),
        live_table=bool(header.flags & lib.DM_ACTIVE_PRESENT_FLAG),
        inactive_table=bool(header.flags & lib.DM_INACTIVE_PRESENT_FLAG),
        targets=targets,
    )


def segments(buffer: Any, header: Any) -> tuple[Target, ...]:
    """Return the segments behind a DM_TABLE_STATUS header; `next` counts from the data's start."""
    if not header.flags & lib.DM_ACTIVE_PRESENT_FLAG:
        return ()
    found = []
    offset = header.data_start
    for _ in range(header.target_count):
        spec = ffi.cast("struct dm_target_spec *", buffer + offset)
        kind = text(spec.target_type)
        words = text(ffi.cast("char *", spec + 1)) if kind in SPOKEN else ""
        found.append(Target(spec.sector_start, spec.length, kind, words))
        offset = header.data_start + spec.next
    return tuple(found)


def load_error(control: int, device: str, sectors: int) -> None:
    """Load an inactive table of one `error` target. Its length should be the live table's, so
    that nobody above sees the device shrink: __bind() in drivers/md/dm.c sets the capacity."""
    spec = ffi.new("struct dm_target_spec *")
    spec.length = sectors
    spec.next = SPEC + 8  # the specification and its parameters, empty and padded
    ffi.memmove(spec.target_type, b"error\0", 6)
    payload = bytes(ffi.buffer(spec)) + bytes(8)
    request(control, lib.DM_TABLE_LOAD, device, payload=payload, targets=1)


def message(control: int, device: str, sector: int, words: str) -> None:
    """Send a target message; the reply, if any, is dropped."""
    head = ffi.new("struct dm_target_msg *")
    head.sector = sector
    payload = bytes(ffi.buffer(head)) + words.encode() + b"\0"
    request(control, lib.DM_TARGET_MSG, device, payload=payload)
