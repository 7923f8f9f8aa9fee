"""Partitions."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.hardware import MIB
from tests.vm.layers.base import NONE, OnOne

SECTOR = 512
ENTRIES, ENTRY = 128, 128
_LINUX = bytes.fromhex("af3dc60f838472478e793d69d8477de4")


@dataclass(frozen=True)
class Gpt(OnOne):
    """A table of at most four partitions of so many MiB on the device `lower`, which has `mib`:
    `LOWER-1` and so on.

    Only the first copy is there, which is enough for the kernel.
    """

    lower: str
    mib: int
    sizes: tuple[int, ...]

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def name(self) -> str:
        return f"gpt:{self.lower}"

    @property
    def title(self) -> str:
        return f"{len(self.sizes)} partitions of {self.lower}"

    def _table(self) -> bytes:
        """The first three sectors. UEFI specification 2.10, chapter 5.3."""
        last = self.mib * MIB // SECTOR - 1
        entries, at = b"", MIB // SECTOR
        for number, size in enumerate(self.sizes, 1):
            end = at + size * MIB // SECTOR
            entries += _LINUX + bytes([number]) * 16 + struct.pack("<QQ", at, end - 1) + bytes(80)
            at = end
        whole = entries.ljust(ENTRIES * ENTRY, b"\0")
        places = struct.pack("<QQQQ", 1, last, 34, last - 33)
        ends = struct.pack("<QIII", 2, ENTRIES, ENTRY, zlib.crc32(whole))

        def header(check: int) -> bytes:
            front = struct.pack("<8sIIII", b"EFI PART", 0x10000, 92, check, 0)
            return front + places + bytes([255]) * 16 + ends

        protective = struct.pack(
            "<446xB3sB3sII48xH", 0, b"\0\2\0", 0xEE, b"\xff" * 3, 1, last, 0xAA55
        )
        sectors = (protective, header(zlib.crc32(header(0))), entries)
        return b"".join(sector.ljust(SECTOR, b"\0") for sector in sectors)

    def build(self) -> str:
        text = base64.b64encode(self._table()).decode()
        return f"""
            echo {text} | base64 -d | dd of=/dev/{self.lower} conv=fsync status=none
            blockdev --rereadpt /dev/{self.lower}
            {self.judge()}"""

    def judge(self) -> str:
        """Give them names."""
        return f"""
            node=$(readlink -f /dev/{self.lower})
            case $node in *[0-9]) part=${{node}}p ;; *) part=$node ;; esac
            for n in $(seq {len(self.sizes)}); do ln -sf $part$n /dev/{self.lower}-$n; done"""
