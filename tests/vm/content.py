"""Files whose content the host knows beforehand, and the plaintext that RAM is searched for."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.vm.hardware import MIB, TRAY_SIZE

# Stands in every 512-byte piece of a secret file. Guests get such files with the top bit of each
# byte turned over, so that only what they write to their disk, and its page cache, contains it.
PLAINTEXT = hashlib.shake_256(b"plaintext").digest(32)
_TURNED = bytes(byte ^ 0x80 for byte in range(256))
_NOTHING: Mapping[str, Any] = MappingProxyType({})
UNSCRAMBLE = r"tr '\000-\177\200-\377' '\200-\377\000-\177'"


@dataclass(frozen=True)
class File:
    """A file of `size` bytes at `path` (absolute, in the guest)."""

    path: str
    size: int
    secret: bool = False

    def _block(self) -> bytes:
        """What the guest is handed: the file itself, or a MiB of which it makes a large one."""
        if self.secret:
            piece = PLAINTEXT + hashlib.shake_256(self.path.encode()).digest(480)
            return piece * (self.size // 512)
        return hashlib.shake_256(self.path.encode()).digest(min(self.size, MIB))

    @property
    def _repeats(self) -> int:
        return 1 if self.secret else max(1, self.size // MIB)

    @property
    def sha256(self) -> str:
        """The checksum it must have in the end."""
        whole, block = hashlib.sha256(), self._block()
        if self._repeats == 1:
            return hashlib.sha256(block).hexdigest()
        for number in range(self._repeats):
            whole.update(b"%d\n" % number + block)
        return whole.hexdigest()

    @property
    def handed(self) -> tuple[str, bytes]:
        """Its name and content on the tray."""
        block = self._block()
        return self.path.strip("/").replace("/", "-"), (
            block.translate(_TURNED) if self.secret else block
        )

    def write(self, root: str) -> str:
        """Shell text that writes it below `root` from the unpacked tray, without any sync."""
        source, target = f"/run/tray/{self.handed[0]}", f"{root}{self.path}"
        folder = f"mkdir -p {target.rpartition('/')[0]}"
        if self.secret:
            return f"{folder}; {UNSCRAMBLE} <{source} >{target}"
        if self._repeats == 1:
            return f"{folder}; cat {source} >{target}"
        return (
            f"{folder}; for i in $(seq 0 {self._repeats - 1}); do"
            f" echo $i; cat {source}; done >{target}"
        )


def fill_tray(
    image: Path,
    folders: Mapping[str, Path] = _NOTHING,
    blobs: Mapping[str, bytes] = _NOTHING,
    files: Sequence[File] = (),
    second: Path | None = None,
) -> int:
    """Write a tray's image: a tar archive with `folders` and `blobs` by name, and `files`.

    Returns the size of the archive in MiB, without which a guest would read a whole tray. Behind
    so many lies the archive `second`, if there is one.
    """
    with image.open("wb") as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, folder in folders.items():
            archive.add(folder, name)
        for name, blob in {**blobs, **dict(file.handed for file in files)}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(blob)
            archive.addfile(entry, io.BytesIO(blob))
    mebibytes = in_mebibytes(image)
    if second:
        with image.open("r+b") as whole, second.open("rb") as more:
            whole.seek(mebibytes * MIB)
            shutil.copyfileobj(more, whole, MIB)
    size = image.stat().st_size
    if size > TRAY_SIZE:
        raise ValueError(f"{image} holds {size} bytes, a tray {TRAY_SIZE}")
    os.truncate(image, TRAY_SIZE)
    return mebibytes


def in_mebibytes(file: Path) -> int:
    """The size of a file in MiB, the last of them perhaps not full."""
    return -(-file.stat().st_size // MIB)
