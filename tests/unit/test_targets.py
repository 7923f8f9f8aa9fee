"""What people call a layer: every name of it, and each that is none."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable
from pathlib import Path

import pytest

from finalstage.cli import targets
from finalstage.cli.errors import NOT_UNDERSTOOD, TargetError
from finalstage.kernel import Call, Stat
from finalstage.layers.dm import Dm
from finalstage.layers.loop import Loop
from finalstage.layers.mount import Mount
from finalstage.layers.swap import Swap
from finalstage.stack import Layer, Stack

DISK = Layer("block:8:0", "disk", "disk", "sda", device="8:0", closes=False, is_disk=True)
CRYPT = Dm("block:253:0", "dm", "crypt", "cryptroot", below=(DISK.id,), device="253:0",
           uuid="CRYPT-LUKS2-00-cryptroot")  # fmt: skip
VOLUME = Dm("block:253:1", "dm", "linear", "v--g-lo--g", below=(CRYPT.id,), device="253:1",
            uuid="LVM-abc")  # fmt: skip
ARRAY = Layer("block:9:127", "md", "raid1", "md127", device="9:127")
LOOP = Loop("block:7:0", "loop", "loop", "loop0", device="7:0", backing="/srv/im age")
SWAP = Swap("swap:/swap", "swap", "swap", "/swap", path="/swap")
UNDER, OVER = (
    Mount(
        f"mount:{id}", "mount", "ext4", "/data", below=(VOLUME.id,), device="253:1", target="/data"
    )
    for id in (30, 31)
)
ODD = Mount("mount:32", "mount", "ext4", "/a\nb c", device="7:0", target="/a\nb c")
STACK = Stack((DISK, CRYPT, VOLUME, ARRAY, LOOP, SWAP, UNDER, OVER, ODD))
NODE, FILE, FOLDER = modes.S_IFBLK, modes.S_IFREG, modes.S_IFDIR
PATHS = {
    "/dev/mapper/cryptroot": Stat(NODE, "0:5", 1, "253:0", 0),
    "/dev/disk/by-uuid/1234-ABCD": Stat(NODE, "0:5", 2, "8:0", 0),
    "/dev/disk/by-label/my\\x20disk": Stat(NODE, "0:5", 2, "8:0", 0),
    "/dev/sdz": Stat(NODE, "0:5", 3, "65:144", 0),
    "/srv/im age": Stat(FILE, "253:1", 7, "0:0", 0),
    "/srv/link": Stat(FILE, "253:1", 7, "0:0", 0),
    "/swap": Stat(FILE, "253:1", 8, "0:0", 0),
    "/etc/fstab": Stat(FILE, "253:1", 9, "0:0", 0),
    "/data": Stat(FOLDER, "253:1", 2, "0:0", 0),
    "/a\nb c": Stat(FOLDER, "7:0", 2, "0:0", 0),
}
KERNEL_NAMES = {"8:0": "sda", "253:0": "dm-0", "253:1": "dm-1", "9:127": "md127", "7:0": "loop0"}


class Paths:
    """A kernel that knows some paths."""

    silent = ""

    def stat(self, path: str) -> Stat:
        try:
            return PATHS[path]
        except KeyError:
            raise FileNotFoundError(2, "", path) from None

    def readlink(self, path: str) -> str:
        return f"../../block/{KERNEL_NAMES[path.rpartition('/')[2]]}"

    def start(self, name: str, function: Callable[[], object]) -> Call:
        call = Call(name)
        if name == self.silent:
            return call
        try:
            call.value = function()
        except OSError as error:
            call.error = error
        call.done = True
        return call

    def wait(self, calls: object, timeout: float) -> list[Call]:
        return []


def meant(word: str) -> Layer:
    return targets.find_one(Paths(), STACK, word)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "layer"),
    [
        ("/dev/mapper/cryptroot", CRYPT),
        ("cryptroot", CRYPT),
        ("dm-0", CRYPT),
        ("v-g/lo-g", VOLUME),
        ("v--g-lo--g", VOLUME),
        ("md127", ARRAY),
        ("/data", OVER),
        ("/data/", OVER),
        ("/data/../data/.", OVER),
        ("/a\nb c", ODD),
        ("/srv/im age", LOOP),
        ("/srv/link", LOOP),
        ("/swap", SWAP),
        ("UUID=1234-abcd", DISK),
        ("1234-abcd", DISK),
        ("LABEL=my disk", DISK),
    ],
)
def test_each_name_of_a_layer_means_it(word: str, layer: Layer) -> None:
    PATHS.setdefault(word, PATHS.get(word.rstrip("/"), PATHS["/data"]))
    assert meant(word) == layer


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("", "an empty word"),
        ("/nowhere", "/nowhere: no such target"),
        ("nowhere", "nowhere: no such target"),
        ("/no\nwhere", r"'/no\\nwhere': no such target"),
        ("UUID=0", "UUID=0: no such target"),
        ("/dev/sdz", "/dev/sdz is a block device that is not in use here"),
        ("/etc/fstab", "is neither a mount point nor a block device.*; it lies on ext4 /data"),
    ],
)
def test_what_is_no_target_is_named_in_one_line(word: str, why: str) -> None:
    with pytest.raises(TargetError, match=why) as caught:
        meant(word)
    assert "\n" not in str(caught.value)
    assert caught.value.status == NOT_UNDERSTOOD


def test_the_order_is_that_of_the_words() -> None:
    kernel = Paths()
    found = targets.find(kernel, STACK, ["md127", "cryptroot"])  # type: ignore[arg-type]
    assert found == [ARRAY, CRYPT]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("md127", "md127"), "md127 is named twice"),
        (("cryptroot", "dm-0"), "cryptroot and dm-0 are both crypt cryptroot"),
    ],
)
def test_a_target_twice_is_refused(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(TargetError, match=why):
        targets.find(Paths(), STACK, words)  # type: ignore[arg-type]


def test_a_path_that_does_not_answer_is_no_target() -> None:
    kernel = Paths()
    kernel.silent = "/data"
    with pytest.raises(TargetError, match="/data gives no answer in 5 s"):
        targets.find_one(kernel, STACK, "/data")  # type: ignore[arg-type]


def test_a_relative_path_is_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink("/data", "here")
    PATHS["./here"] = PATHS["here"] = PATHS["/data"]
    assert meant("./here") == OVER
    assert meant("here") == OVER
