"""What LVM has written on a physical volume about its volume group: whether others share it.

Read natively, since nobody else tells: sysfs knows nothing of volume groups. Sources: lvm2's
lib/label/label.h, lib/format_text/layout.h, lib/format_text/export.c, lib/misc/crc.c.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

SECTOR = 512
LABEL = struct.Struct("<8sQII8s")
LABEL_SECTORS = 4
"""The label is in one of the first so many sectors; pvcreate puts it in the second."""

PV_HEADER = struct.Struct("<32sQ")
AREA = struct.Struct("<QQ")
"""Offset and size in bytes; a list of them ends with an offset of 0."""

AREA_HEADER = struct.Struct("<I16sIQQ")
AREA_HEADER_BYTES = 512
MAGIC = b" LVM2 x[5A%r0N*>"
TEXT = struct.Struct("<QQII")
IGNORED = 1
LARGEST_TEXT = 16 << 20

CHECKSUM_START = 0xF597A6CF
"""What LVM's CRC-32 begins with. It does not invert, as zlib does before and after."""

Read = Callable[[int, int], bytes]
"""Returns so many bytes of a device from an offset on."""


class VolumeGroup(NamedTuple):
    """What a physical volume says of its volume group. `id` is without hyphens. `lock_type` is
    sanlock, dlm or idm where lvmlockd has the say; `clustered` was for clvmd, of old. `by_itself`
    is whether udev's rules may activate it."""

    name: str
    id: str
    lock_type: str
    clustered: bool
    by_itself: bool

    @property
    def sharing(self) -> str:
        """Who keeps the locks of one that machines share, or "" for one that is ours alone."""
        if self.lock_type not in ("", "none"):
            return f"lvmlockd ({self.lock_type})"
        return "clvmd" if self.clustered else ""


def read_group(read: Read) -> VolumeGroup | None:
    """Return what stands on a device; None where no text is on it, as on one of many volumes that
    was told to keep none.

    Raises ValueError where it is no physical volume, or damaged.
    """
    for offset, size in _metadata_areas(read):
        if text := _text(read, offset, size):
            return parse(text)
    return None


def parse(text: str) -> VolumeGroup:
    """Return what the text says before its volumes. ValueError if it is something else."""
    head = text.partition("physical_volumes {")[0]
    name = re.match(r"\s*([\w.+-]+) \{", head)
    id = re.search(r'^\s*id = "([\w-]+)"', head, re.MULTILINE)
    if not name or not id:
        raise ValueError("its metadata makes no sense")
    lock = re.search(r'^\s*lock_type = "(\w*)"', head, re.MULTILINE)
    flags = re.findall(r"^\s*(?:status|flags) = \[(.*?)\]", head, re.MULTILINE | re.DOTALL)
    return VolumeGroup(
        name=name[1],
        id=id[1].replace("-", ""),
        lock_type=lock[1] if lock else "",
        clustered=any('"CLUSTERED"' in words for words in flags),
        by_itself=not any('"NOAUTOACTIVATE"' in words for words in flags),
    )


def _metadata_areas(read: Read) -> list[tuple[int, int]]:
    head = read(0, LABEL_SECTORS * SECTOR)
    for sector in range(LABEL_SECTORS):
        start = sector * SECTOR
        id, number, _checksum, offset, type = _unpack(LABEL, head, start)
        if id == b"LABELONE" and number == sector and type == b"LVM2 001":
            first = start + offset + PV_HEADER.size
            # Data areas, an entry that ends their list, and the metadata areas behind it.
            behind = first + (len(list(_list(head, first))) + 1) * AREA.size
            return list(_list(head, behind))
    raise ValueError("it is no physical volume")


def _list(head: bytes, start: int) -> Iterator[tuple[int, int]]:
    while True:
        offset, size = _unpack(AREA, head, start)
        if not offset:
            return
        yield offset, size
        start += AREA.size


def _text(read: Read, start: int, area_size: int) -> str:
    """Return the text that is valid now in an area, in which it goes round in a ring; "" if none
    is, or it is to be ignored."""
    head = read(start, AREA_HEADER_BYTES)
    _checksum, magic, _version, _start, _size = _unpack(AREA_HEADER, head, 0)
    if magic != MAGIC:
        raise ValueError("its metadata area is damaged")
    offset, size, checksum, flags = _unpack(TEXT, head, AREA_HEADER.size)
    if not offset or flags & IGNORED:
        return ""
    if not AREA_HEADER_BYTES <= offset < area_size or not size <= min(area_size, LARGEST_TEXT):
        raise ValueError("its metadata area is damaged")
    front = min(size, area_size - offset)
    found = read(start + offset, front)
    if size > front:
        found += read(start + AREA_HEADER_BYTES, size - front)
    if _sum(found) != checksum:
        raise ValueError("the checksum of its metadata is wrong")
    return found.rstrip(b"\0").decode("utf-8", "replace")


def _sum(data: bytes) -> int:
    inverted = 0xFFFFFFFF
    return zlib.crc32(data, CHECKSUM_START ^ inverted) ^ inverted


def _unpack(form: struct.Struct, data: bytes, offset: int) -> tuple[Any, ...]:
    try:
        return form.unpack_from(data, offset)
    except struct.error:
        raise ValueError("it ends too early") from None
