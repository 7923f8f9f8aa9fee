"""Which processes hold what is to be closed: by which of several mounts, and in which namespace."""

from __future__ import annotations

import stat as modes
from errno import ENOENT

import pytest

from finalstage.cli.close import holding
from finalstage.kernel import Stat
from finalstage.layers.mount import Mount
from finalstage.stack import Layer, Stack

DEVICE = "253:1"
VOLUME = Layer("block:253:1", "dm", "linear", "vg-data", device=DEVICE)
DATA, BIND = (
    Mount(f"mount:{id}", "mount", "ext4", target, (VOLUME.id,), device=DEVICE, target=target)
    for id, target in ((2, "/data"), (3, "/bind"))
)
STACK = Stack((VOLUME, DATA, BIND))
OURS = "2 1 253:1 / /data rw shared:5 - ext4 x rw\n3 1 253:1 / /bind rw shared:6 - ext4 x rw\n"


class Proc:
    """A kernel that knows one process beside our own, with files open at some paths."""

    pid = 5

    def __init__(
        self,
        opened: dict[str, Stat],
        name: str = "sh",
        space: str = "mnt:[1]",
        mounts: str = OURS,
    ) -> None:
        self.opened = list(opened.items())
        self.name, self.space, self.mounts = name, space, mounts

    def listdir(self, path: str) -> list[str]:
        if path == "/proc":
            return ["5", "9", "self"]
        if path == "/proc/9/fd":
            return [str(number) for number in range(len(self.opened))]
        raise OSError(ENOENT, "", path)

    def read(self, path: str) -> bytes:
        if path == "/proc/9/stat":
            return f"9 ({self.name}) S 1 1 1 0 1 0 0".encode()
        if path == "/proc/9/mountinfo":
            return self.mounts.encode()
        if path == "/proc/5/mountinfo":
            return OURS.encode()
        raise OSError(ENOENT, "", path)

    def readlink(self, path: str) -> str:
        if path.endswith("/ns/mnt"):
            return self.space if path == "/proc/9/ns/mnt" else "mnt:[1]"
        if path.startswith("/proc/9/fd/"):
            return self.opened[int(path.rpartition("/")[2])][0]
        raise OSError(ENOENT, "", path)

    def stat(self, path: str) -> Stat:
        if path.startswith("/proc/9/fd/"):
            return self.opened[int(path.rpartition("/")[2])][1]
        raise OSError(ENOENT, "", path)


def a_file(device: str = DEVICE) -> Stat:
    return Stat(modes.S_IFREG, device, 1, "0:0", 0)


def a_node(special: str) -> Stat:
    return Stat(modes.S_IFBLK, "0:6", 1, special, 0)


def held(kernel: Proc, *layers: Layer) -> dict[str, list[str]]:
    return holding.find(kernel, STACK, frozenset(layer.id for layer in layers))  # type: ignore[arg-type]


@pytest.mark.parametrize(("path", "layer"), [("/data/x", DATA), ("/bind/x", BIND)])
def test_of_two_mounts_of_a_device_only_the_one_by_which_it_was_opened(
    path: str, layer: Layer
) -> None:
    kernel = Proc({path: a_file()})
    assert held(kernel, DATA, BIND) == {layer.id: ["sh[9] (open file)"]}
    (other,) = {DATA.id, BIND.id} - {layer.id}
    assert held(kernel, STACK.by_id[other]) == {}


def test_a_device_that_is_open_itself() -> None:
    kernel = Proc({"/dev/vg/data": a_node(DEVICE)})
    assert held(kernel, VOLUME) == {VOLUME.id: ["sh[9] (open file)"]}
    assert held(kernel, DATA) == {}


@pytest.mark.parametrize(
    ("name", "more"), [("nbd-client", {}), ("ntfs-3g", {"/dev/fuse": a_node("10:229")})]
)
def test_who_serves_a_device_ends_with_it(name: str, more: dict[str, Stat]) -> None:
    assert held(Proc({"/dev/x": a_node(DEVICE), **more}, name), VOLUME) == {}


@pytest.mark.parametrize(
    ("peers", "stays"),
    [("master:5", False), ("shared:5", False), ("shared:7", True), ("master:7", True), ("", True)],
)
def test_a_mount_in_another_namespace_holds_it_unless_it_goes_with_ours(
    peers: str, stays: bool
) -> None:
    line = f"8 7 253:1 / /data rw {peers} - ext4 x rw\n".replace("  ", " ")
    kernel = Proc({}, "container", "mnt:[2]", line)
    found = held(kernel, VOLUME, DATA, BIND)
    assert found == ({DATA.id: ["mount namespace of container[9]"]} if stays else {})
    assert held(kernel, BIND) == {}  # it is not the last mount of it here
