"""Reading a volume group's metadata off a physical volume: ours, shared, damaged, none at all."""

from __future__ import annotations

import zlib

import pytest

from finalstage.cli.close import volume_groups
from finalstage.cli.close.volume_groups import VolumeGroup, read_group

AREA = 4096
AREA_BYTES = 1 << 20
ID = "bLsTmU-TXC6-35LA-B5Ti-cOOQ-MuEz-dHef2m"
# As LVM 2.03.16 writes it, without its volumes.
TEXT = f"""two {{
id = "{ID}"
seqno = 4
format = "lvm2"
status = ["RESIZEABLE", "READ", "WRITE"%s]
flags = []
%sextent_size = 8192
max_lv = 0
max_pv = 0
metadata_copies = 0

physical_volumes {{

pv0 {{
id = "jOTcOJ-AugX-CVWM-hv0B-YsNy-tHIZ-nGnARv"
}}
}}
logical_volumes {{
srv {{
id = "muhIKv-dui5-Fpbj-cgDX-wCuL-gTjS-SNTehy"
lock_type = "dlm"
}}
}}
}}
"""


def checksum(data: bytes) -> int:
    """LVM's CRC-32, bit by bit: calc_crc() in lib/misc/crc.c."""
    found = 0xF597A6CF
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (0xEDB88320 if found & 1 else 0)
    return found


def volume(text: str, at: int = 512, sector: int = 1, ignored: int = 0, sum: int = -1) -> bytes:
    """Return a physical volume with such a text, which begins in its area at an offset."""
    found = bytearray(AREA + AREA_BYTES)
    areas = [(AREA + AREA_BYTES, 0), (0, 0), (AREA, AREA_BYTES), (0, 0)]
    header = volume_groups.PV_HEADER.pack(b"jOTcOJAugXCVWMhv0BYsNytHIZnGnARv", 40 << 20)
    header += b"".join(volume_groups.AREA.pack(*area) for area in areas)
    label = volume_groups.LABEL.pack(b"LABELONE", sector, 0, 32, b"LVM2 001")
    found[sector * 512 : sector * 512 + len(label + header)] = label + header
    data = text.encode() + b"\0"
    head = volume_groups.AREA_HEADER.pack(0, volume_groups.MAGIC, 1, AREA, AREA_BYTES)
    head += volume_groups.TEXT.pack(
        at, len(data), checksum(data) if sum < 0 else sum, ignored
    ) + bytes(24)
    found[AREA : AREA + len(head)] = head
    front = data[: AREA_BYTES - at]
    found[AREA + at : AREA + at + len(front)] = front
    behind = data[len(front) :]
    found[AREA + 512 : AREA + 512 + len(behind)] = behind or found[AREA + 512 : AREA + 512]
    return bytes(found)


def read(device: bytes) -> VolumeGroup | None:
    return read_group(lambda at, size: device[at : at + size])


@pytest.mark.parametrize(
    ("status", "lock", "sharing"),
    [
        ("", "", ""),
        ("", 'lock_type = "none"\n', ""),
        ("", 'lock_type = "sanlock"\nlock_args = "1.0.0:lvmlock"\n', "lvmlockd (sanlock)"),
        (', "CLUSTERED"', "", "clvmd"),
    ],
)
def test_who_shares_it(status: str, lock: str, sharing: str) -> None:
    group = read(volume(TEXT % (status, lock)))
    assert group and (group.name, group.id) == ("two", ID.replace("-", ""))
    assert group.sharing == sharing
    assert group.by_itself


def test_one_that_is_not_activated_by_itself() -> None:
    text = TEXT.replace("flags = []", 'flags = ["NOAUTOACTIVATE"]') % ("", "")
    group = read(volume(text))
    assert group and not group.by_itself


@pytest.mark.parametrize("at", [512, AREA_BYTES - 100, AREA_BYTES - 513])
@pytest.mark.parametrize("sector", [0, 1, 3])
def test_wherever_it_begins(at: int, sector: int) -> None:
    """The text goes round in its area, and the label may be in one of four sectors."""
    group = read(volume(TEXT % ("", ""), at, sector))
    assert group and group.name == "two"


def test_the_sum_is_that_of_lvm() -> None:
    assert checksum(b"123456789") != zlib.crc32(b"123456789")
    assert volume_groups._sum(b"123456789") == checksum(b"123456789")


def test_one_that_keeps_no_text() -> None:
    assert read(volume(TEXT % ("", ""), ignored=1)) is None
    assert read(volume("", at=0)) is None


@pytest.mark.parametrize(
    "device",
    [
        b"",
        bytes(1 << 16),
        volume(TEXT % ("", ""))[:4700],
        volume(TEXT % ("", ""), sum=1),
        volume("what is this"),
        volume(TEXT % ("", "")).replace(volume_groups.MAGIC, bytes(16)),
    ],
    ids=["empty", "zeros", "short", "checksum", "text", "magic"],
)
def test_what_is_damaged_is_not_believed(device: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(device)
