"""Writes a tree as a manifest, as cpio for the kernel, and as tar; the same bytes each time."""

import lzma
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cffi_build import project
from finalstage.cli.staged.payload import ARCHIVE, MANIFEST, Entry


def entries(root: Path) -> list[Entry]:
    """Every path below `root`, directories before what is in them."""
    found = []
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = (Path(folder) / name).relative_to(root)
            if any(char.isspace() for char in str(path)):
                raise project.die(f"a path of the tree has a space in it: {path}")
            found.append(Entry.of(root, str(path)))
    return sorted(found, key=lambda entry: entry.path.split("/"))


def manifest(root: Path) -> str:
    """The text of the manifest of the tree at `root`."""
    return "".join(f"{entry.line()}\n" for entry in entries(root))


SMALL_WINDOW = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]
"""Bytes that unpacking takes in memory. Eight times as many make the archive smaller by 1%."""


def write_payload(root: Path, folder: Path) -> None:
    """Writes the manifest and the tar archive that a one-file executable carries."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        lzma.open(folder / ARCHIVE, "wb", filters=SMALL_WINDOW) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for entry in entries(root):
            member = archive.gettarinfo(root / entry.path, arcname=entry.path)
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mtime = project.source_date()
            if entry.kind == "f":
                with (root / entry.path).open("rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)
    (folder / MANIFEST).write_text(manifest(root), encoding="ascii")


def write_cpio(root: Path, path: Path) -> None:
    """Writes the tree as a zstd-compressed initramfs segment."""
    plain = project.BUILD / path.stem
    packed = project.BUILD / path.name
    with plain.open("wb") as out:
        for block in _cpio_blocks(root):
            out.write(block)
        _pad(out, 512)
    # The kernel's own unpacker (lib/decompress_unzstd.c) takes windows up to 128 MiB; -19 uses 8.
    subprocess.run(["zstd", "-19", "--quiet", "--force", "--rm", plain, "-o", packed], check=True)
    packed.replace(path)


def _cpio_blocks(root: Path) -> Iterator[bytes]:
    """The "newc" format of Documentation/driver-api/early-userspace/buffer-format.rst."""
    for number, entry in enumerate(entries(root), 1):
        source = root / entry.path
        if entry.kind == "l":
            yield _cpio_entry(entry.path, number, stat.S_IFLNK | 0o777, entry.target.encode())
        elif entry.kind == "d":
            yield _cpio_entry(entry.path, number, stat.S_IFDIR | entry.mode, b"")
        else:
            yield _cpio_entry(entry.path, number, stat.S_IFREG | entry.mode, source.read_bytes())
    yield _cpio_entry("TRAILER!!!", 0, 0, b"")


def _cpio_entry(name: str, inode: int, mode: int, data: bytes) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    raw_name = name.encode() + b"\0"
    devices = (0, 0, 0, 0)  # the numbers of the one the file is on, and of the one it is
    date = project.source_date()
    fields = (inode, mode, 0, 0, links, date, len(data), *devices, len(raw_name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw_name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _pad(out: BinaryIO, size: int) -> None:
    out.write(bytes(-out.tell() % size))
