"""UUIDs and labels as they stand on block devices, for where no udev has made links of them.

Where what stands is taken from util-linux, libblkid/src/superblocks. Nothing is written, and a
device that does not answer costs a moment: whoever reads is a process of its own, which is left
behind.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

DEVICE_SECONDS, ALL_SECONDS = 1.0, 4.0
"""How long one device may take to answer, and all together."""

HEAD, TAIL = 68 << 10, 128 << 10
"""How many bytes at the beginning and at the end of a device hold all superblocks."""

MEMBER = "linux_raid_member"
MD_MAGIC = b"\xfc\x4e\x2b\xa9"
PAGES = (4096, 8192, 16384, 32768, 65536)


@dataclass(frozen=True)
class Tags:
    """What a device says of itself."""

    type: str
    uuid: str
    label: str = ""

    def has(self, tag: str, value: str) -> bool:
        """Whether it has such a ``UUID`` or ``LABEL``. Hyphens and case of a UUID do not count."""
        if tag == "LABEL":
            return self.label == value != ""
        return tag == "UUID" and _bare(self.uuid) == _bare(value) != ""


def _bare(uuid: str) -> str:
    return uuid.replace("-", "").replace(":", "").lower()


@dataclass(frozen=True)
class Place:
    """Where a magic word stands, the UUID, and the label with its length; how the UUID is read."""

    type: str
    magic: bytes
    at: int
    uuid: int
    label: int = 0
    length: int = 0
    read: Callable[[bytes, int], str] = lambda data, at: data[at : at + 16].hex()


def _text(data: bytes, at: int, length: int) -> str:
    return data[at : at + length].partition(b"\0")[0].decode("utf-8", "replace").rstrip()


def _serial(data: bytes, at: int) -> str:
    """The serial number of a FAT, as mkfs.fat shows it."""
    return data[at : at + 4][::-1].hex()


def _forty(data: bytes, at: int) -> str:
    return _text(data, at, 40)


def _of_volume(data: bytes, at: int) -> str:
    return _text(data, at, 32)


PLACES = (
    Place("crypto_LUKS", b"LUKS\xba\xbe\0\x01", 0, 168, read=_forty),
    Place("crypto_LUKS", b"LUKS\xba\xbe\0\x02", 0, 168, 24, 48, _forty),
    *(
        Place("LVM2_member", b"LVM2 001", sector * 512 + 24, sector * 512 + 32, read=_of_volume)
        for sector in range(4)
    ),
    Place(MEMBER, MD_MAGIC + b"\1\0\0\0", 4096, 4096 + 16, 4096 + 32, 32),
    Place(MEMBER, MD_MAGIC + b"\1\0\0\0", 0, 16, 32, 32),
    *(Place("swap", b"SWAPSPACE2", page - 10, 1024 + 12, 1024 + 28, 16) for page in PAGES),
    Place("btrfs", b"_BHRfS_M", 65536 + 64, 65536 + 32, 65536 + 299, 256),
    Place("ext4", b"\x53\xef", 1024 + 0x38, 1024 + 0x68, 1024 + 0x78, 16),
    Place("xfs", b"XFSB", 0, 32, 108, 12),
    Place("vfat", b"FAT32   ", 0x52, 0x43, 0x47, 11, _serial),
    Place("vfat", b"FAT16   ", 0x36, 0x27, 0x2B, 11, _serial),
    Place("vfat", b"FAT12   ", 0x36, 0x27, 0x2B, 11, _serial),
)
"""In the order in which they count: what is on an encrypted device or a member may lie behind."""


def identify(head: bytes, tail: bytes, size: int) -> Tags | None:
    """Return what a device of so many bytes says of itself, or None. `head` is what it begins with,
    `tail` what it ends with."""
    for place in PLACES:
        if head.startswith(place.magic, place.at):
            label = _text(head, place.label, place.length) if place.length else ""
            return Tags(place.type, place.read(head, place.uuid), label)
    return _old_member(tail, size)


def _old_member(tail: bytes, size: int) -> Tags | None:
    """The metadata of md that stands at the end: version 1.0, and 0.90, whose UUID is in pieces.

    calc_sb_start() and mdp_super_t: super1.c in mdadm, <linux/raid/md_p.h>."""
    start = size - len(tail)
    newer = (size - 8192 & ~4095) - start
    if newer >= 0 and tail.startswith(MD_MAGIC + b"\1\0\0\0", newer):
        uuid = tail[newer + 16 : newer + 32].hex()
        return Tags(MEMBER, uuid, _text(tail, newer + 32, 32))
    older = (size & ~65535) - 65536 - start
    if older >= 0 and tail.startswith(MD_MAGIC, older):
        words = (older + 20, older + 52, older + 56, older + 60)
        return Tags(MEMBER, "".join(tail[at : at + 4][::-1].hex() for at in words))
    return None


def read(path: str) -> Tags | None:
    """Return what the device at a path says of itself. Can hang. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        tail = os.pread(descriptor, TAIL, max(size - TAIL, 0))
        return identify(os.pread(descriptor, HEAD, 0), tail, size)
    finally:
        os.close(descriptor)


def read_all(paths: Sequence[str]) -> dict[str, Tags]:
    """Return what devices say of themselves, by their paths: those that answer in time, and say
    anything that is known here."""
    found: dict[str, Tags] = {}
    left, until = list(paths), time.monotonic() + ALL_SECONDS
    while left and time.monotonic() < until:
        for tags in _read_aside(left, until):
            if tags:
                found[left[0]] = tags
            left.pop(0)
        left = left[1:]  # the one that did not answer
    return found


def _read_aside(paths: Sequence[str], until: float) -> Iterator[Tags | None]:
    """Have a process read one device after the other, and yield what they say, until one does not
    answer."""
    ours, theirs = os.pipe()
    reader = os.fork()
    if reader == 0:
        try:
            _tell(paths, theirs)
        finally:
            os._exit(0)
    os.close(theirs)
    try:
        with open(ours, "rb", buffering=0) as answers:
            for _ in range(len(paths)):
                patience = min(DEVICE_SECONDS, until - time.monotonic())
                if not select.select([answers], [], [], max(patience, 0))[0]:
                    return
                line = answers.readline()
                if not line:
                    return
                said = json.loads(line)
                yield Tags(**said) if said else None
    finally:
        # One that hangs in the kernel dies when its device answers; nobody waits for that.
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, os.WNOHANG)


def _tell(paths: Sequence[str], to: int) -> None:
    for path in paths:
        try:
            tags = read(path)
        except OSError:
            tags = None
        os.write(to, json.dumps(asdict(tags) if tags else None).encode() + b"\n")
