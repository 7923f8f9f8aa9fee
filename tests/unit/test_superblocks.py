"""UUIDs and labels read from devices: as the programs write them that make file systems, as
blkid(8) reads them, and where a device does not answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from finalstage.cli import superblocks, targets
from finalstage.cli.errors import TargetError
from finalstage.cli.superblocks import MD_MAGIC, MEMBER, Tags
from finalstage.stack import Layer, Stack

UUID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
LUKS = ("--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--uuid", UUID)
MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-L", "my ext", "-U", UUID, "{}"),
    "swap": ("mkswap", "-q", "-L", "my swap", "-U", UUID, "{}"),
    "LUKS1": ("cryptsetup", "luksFormat", "--type", "luks1", *LUKS, "{}", "-"),
    "LUKS2": ("cryptsetup", "luksFormat", "--type", "luks2", "--label", "my", *LUKS, "{}", "-"),
}
SIZE = 32 << 20


def image(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(SIZE)
    return path


@pytest.mark.parametrize("kind", MAKERS)
def test_what_stands_there_is_what_blkid_reads(kind: str, tmp_path: Path) -> None:
    path = image(tmp_path / kind)
    command = [word.format(path) for word in MAKERS[kind]]
    subprocess.run(command, input=b"secret", check=True, capture_output=True)
    asked = ("blkid", "-p", "-s", "UUID", "-s", "LABEL", "-s", "TYPE", "-o", "export", path)
    said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    lines = dict(line.split("=", 1) for line in said.replace("\\ ", " ").splitlines())
    found = superblocks.read_all([str(path)])[str(path)]
    assert found.type == lines["TYPE"]
    assert found.label == lines.get("LABEL", "")
    assert found.has("UUID", lines["UUID"]) and lines["UUID"] == UUID


def put(size: int, **at: tuple[int, bytes]) -> tuple[bytes, bytes, int]:
    """Return the beginning and the end of a device with some bytes at their places."""
    data = bytearray(size)
    for place, content in at.values():
        data[place : place + len(content)] = content
    return bytes(data[: superblocks.HEAD]), bytes(data[-superblocks.TAIL :]), size


WORDS = bytes(range(16))
BACK = b"".join(WORDS[at : at + 4][::-1] for at in (0, 4, 8, 12))


@pytest.mark.parametrize(
    ("device", "found"),
    [
        (put(1 << 20), None),
        (
            put(1 << 20, magic=(0, b"XFSB"), uuid=(32, WORDS), label=(108, b"x\0")),
            Tags("xfs", WORDS.hex(), "x"),
        ),
        (
            put(1 << 20, magic=(65600, b"_BHRfS_M"), uuid=(65568, WORDS), label=(65835, b"b")),
            Tags("btrfs", WORDS.hex(), "b"),
        ),
        (
            put(1 << 20, magic=(0x52, b"FAT32   "), uuid=(0x43, b"\1\2\3\4"), at=(0x47, b"F  ")),
            Tags("vfat", "04030201", "F"),
        ),
        (
            put(1 << 20, magic=(536, b"LVM2 001"), uuid=(544, b"a" * 32)),
            Tags("LVM2_member", "a" * 32),
        ),
        (
            put(1 << 20, magic=(4096, MD_MAGIC + b"\1\0\0\0"), uuid=(4112, WORDS),
                name=(4128, b"h:0")),
            Tags(MEMBER, WORDS.hex(), "h:0"),
        ),
        (
            put((1 << 20) + 4096, magic=((1 << 20) - 4096, MD_MAGIC + b"\1\0\0\0"),
                uuid=((1 << 20) - 4080, WORDS)),
            Tags(MEMBER, WORDS.hex()),
        ),
        (
            put(1 << 20, magic=((1 << 20) - 65536, MD_MAGIC), a=((1 << 20) - 65516, BACK[:4]),
                b=((1 << 20) - 65484, BACK[4:])),
            Tags(MEMBER, WORDS.hex()),
        ),
    ],
    ids=["nothing", "xfs", "btrfs", "vfat", "LVM", "md 1.2", "md 1.0", "md 0.90"],
)  # fmt: skip
def test_each_place(device: tuple[bytes, bytes, int], found: Tags | None) -> None:
    assert superblocks.identify(*device) == found


def test_a_device_that_does_not_answer_costs_a_moment_and_only_itself(tmp_path: Path) -> None:
    good, dead = image(tmp_path / "good"), tmp_path / "dead"
    subprocess.run(("mkswap", "-q", "-U", UUID, good), check=True, capture_output=True)
    os.mkfifo(dead)  # to open it waits for a writer
    gone = tmp_path / "gone"
    found = superblocks.read_all([str(each) for each in (gone, dead, good)])
    assert list(found) == [str(good)]


# -- as targets ------------------------------------------------------------------------------------


def block(name: str, *below: str, kind: str = "disk") -> Layer:
    return Layer(f"block:{name}", kind, kind, name, tuple(f"block:{x}" for x in below), device=name)


class Unlinked:
    """A kernel on which no udev has made links."""

    def readlink(self, path: str) -> str:
        return f"../../block/{path.rpartition('/')[2]}"

    def stat(self, path: str) -> object:
        raise FileNotFoundError(2, "", path)


A, B, MD = block("a"), block("b"), block("md0", "a", "b", kind="md")
STACK = Stack((A, B, MD, block("c"), block("d")))
Answer = Callable[[str], list[Layer]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Answer:
    said = {
        "/dev/a": Tags(MEMBER, "11"), "/dev/b": Tags(MEMBER, "11"), "/dev/md0": Tags("ext4", "22"),
        "/dev/c": Tags("ext4", "33", "twice"), "/dev/d": Tags("xfs", "44", "twice"),
    }  # fmt: skip
    monkeypatch.setattr(superblocks, "read_all", lambda paths: said)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return lambda word: targets.find(Unlinked(), STACK, [word])  # type: ignore[arg-type]


def test_a_uuid_is_found_without_udev(asked: Answer) -> None:
    assert asked("UUID=22") == [MD]


def test_members_stand_for_their_array(asked: Answer) -> None:
    assert asked("UUID=11") == [MD]


def test_a_label_that_is_there_twice_is_refused(asked: Answer) -> None:
    with pytest.raises(TargetError, match="LABEL=twice is on several: disk c, disk d; name one"):
        asked("LABEL=twice")


def test_who_is_not_root_reads_no_device(asked: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TargetError, match="no such target"):
        asked("UUID=22")
