"""What file systems lie on, as mountinfo, /sys and /proc tell it."""

from __future__ import annotations

import errno
import os
from typing import TypeVar

import pytest

from finalstage.kernel import Kernel, Stat
from finalstage.layers.filesystems import Survey, device_of, options, overlay_directories
from finalstage.mountinfo import Entry
from finalstage.world import Block, SwapArea, World

Found = TypeVar("Found")


class Files:
    """A kernel with a few files, directories and device nodes, and nothing else."""

    def __init__(self, files: dict[str, str], folders: dict[str, list[str]], nodes: dict[str, str]):
        self.files, self.folders, self.nodes = files, folders, nodes

    def read(self, path: str) -> bytes:
        return self._find(self.files, path).encode()

    def listdir(self, path: str) -> list[str]:
        return self._find(self.folders, path)

    def stat(self, path: str) -> Stat:
        return Stat(0o60600, "0:6", 1, self._find(self.nodes, path), 0)

    @staticmethod
    def _find(known: dict[str, Found], path: str) -> Found:
        if path not in known:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return known[path]


def block(name: str, device: str, *entries: str) -> Block:
    return Block(name, device, 2048, frozenset(entries), (), "")


BLOCKS = (block("vda", "254:0"), block("vdb", "254:16"), block("dm-0", "253:0", "dm"))
NODES = {"/dev/vdb": "254:16", "/oldroot/dev/old": "254:0", "/dev/null": "1:3"}


def mount(fstype: str, super_options: str, device: str = "0:50", source: str = "none") -> Entry:
    return Entry(9, 1, device, "/", "/oldroot/x", "rw", fstype, source, super_options)


def at(id: int, target: str, fstype: str = "ext4", device: str = "254:0", parent: int = 1) -> Entry:
    return Entry(id, parent, device, "/", target, "rw", fstype, "none", "rw")


def survey(
    *mounts: Entry,
    files: dict[str, str] | None = None,
    folders: dict[str, list[str]] | None = None,
    swaps: tuple[SwapArea, ...] = (),
) -> Survey:
    world = World(BLOCKS, mounts, swaps, (), old_root="/oldroot")
    kernel: Kernel = Files(files or {}, folders or {}, NODES)  # type: ignore[assignment]
    return Survey(kernel, world)


# -- options ---------------------------------------------------------------------------------------


def test_options() -> None:
    assert options("rw,a=b=c,d") == [("rw", ""), ("a", "b=c"), ("d", "")]


@pytest.mark.parametrize(
    ("text", "directories"),
    [
        ("rw,lowerdir=/a:/b,upperdir=/u,workdir=/w,xino=off", ["/a", "/b", "/u", "/w"]),
        # As Linux 6.1 shows what was given as a\:b\,c and d\\e.
        (r"rw,lowerdir=/a\134:b\134\054c:/d\134\134e", [r"/a:b\,c", r"/d\e"]),
        # As later ones show a:b,c.
        (r"rw,lowerdir=/a\072b\054c:/d", ["/a:b,c", "/d"]),
        ("rw,lowerdir=/a::/data,upperdir=/u", ["/a", "/data", "/u"]),
        ("rw,lowerdir+=/a,lowerdir+=/b,datadir+=/c", ["/a", "/b", "/c"]),
        ("rw,lowerdir=l/one:l/two", ["l/one", "l/two"]),
        (r"rw,lowerdir=/a\040b\012c", ["/a b\nc"]),
        ("rw,xino=off", []),
        ("", []),
    ],
)
def test_overlay_directories(text: str, directories: list[str]) -> None:
    assert overlay_directories(text) == directories


# -- overlays --------------------------------------------------------------------------------------

MOUNTS = (
    at(2, "/oldroot"),
    at(3, "/oldroot/a", device="254:16"),
    at(4, "/oldroot/run", "tmpfs", "0:40"),
    at(5, "/oldroot/run/b", device="253:0", parent=4),
)


def leans_on(super_options: str, *more: Entry) -> set[str]:
    entry = mount("overlay", f"rw,{super_options}")
    return set(survey(*MOUNTS, *more, entry).ground(entry).leans_on)


def test_an_overlay_leans_on_the_mounts_of_its_directories() -> None:
    assert leans_on("lowerdir=/a/x:/run/b,upperdir=/a/u,workdir=/a/w") == {"mount:3", "mount:5"}


def test_directories_are_found_by_what_they_were_called_in_an_initramfs() -> None:
    assert leans_on("lowerdir=/sysroot/a/x:/root/run/b") == {"mount:3", "mount:5"}


def test_the_root_is_what_is_left() -> None:
    assert leans_on("lowerdir=/var/x") == {"mount:2"}


def test_it_never_leans_on_itself() -> None:
    assert leans_on("lowerdir=/x/y", at(8, "/oldroot/x", device="254:16")) == {"mount:8"}


def test_a_name_without_a_beginning_may_lie_on_any_mount() -> None:
    assert leans_on("lowerdir=x/y") == {"mount:2", "mount:3", "mount:5"}


def test_where_no_such_mount_is_seen_it_may_lie_on_any_device_that_nobody_holds() -> None:
    entry = mount("overlay", "rw,lowerdir=/run/gone")
    found = survey(*MOUNTS[:3], entry).ground(entry).leans_on
    assert found == ("mount:4", "block:253:0")


# -- devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "device"),
    [
        ("/dev/vdb", "254:16"),
        ("/dev/old", "254:0"),  # only before the pivot
        ("/dev/disk/vda", "254:0"),  # by its name
        ("/dev/mapper/odd name", "253:0"),
        ("/dev/nothing", ""),
        ("none", ""),
        ("", ""),
    ],
)
def test_device_of(path: str, device: str) -> None:
    names = {"/sys/class/block/dm-0/dm/name": "odd name\n"}
    seen = survey(files=names)
    assert device_of(seen.kernel, seen.world, path) == device


def below(entry: Entry, **known: object) -> tuple[str, ...]:
    return survey(entry, **known).ground(entry).below  # type: ignore[arg-type]


def test_xfs_stands_on_its_log_and_its_real_time_device() -> None:
    entry = mount("xfs", "rw,attr2,logdev=/dev/vdb,rtdev=/dev/old,noquota")
    assert below(entry) == ("block:254:16", "block:254:0")


THREAD = "/sys/fs/ext4/vda/journal_task"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({THREAD: "77\n", "/proc/77/comm": "jbd2/vdb\n"}, ("block:254:16",)),
        ({THREAD: "77\n", "/proc/77/comm": "jbd2/dm-0\n"}, ("block:253:0",)),
        ({THREAD: "77\n", "/proc/77/comm": "jbd2/vda-8\n"}, ()),
        ({THREAD: "77\n", "/proc/77/comm": "jbd2/dm-0-8\n"}, ()),
        ({THREAD: "<none>\n"}, ()),
        ({THREAD: "77\n"}, ()),
        ({}, ()),
    ],
)
def test_ext4_stands_on_its_journal(files: dict[str, str], found: tuple[str, ...]) -> None:
    assert below(mount("ext4", "rw", device="254:0"), files=files) == found


@pytest.mark.parametrize(
    ("journals", "found"),
    [
        ({"/proc/fs/jbd2": ["vda-8", "vdb"]}, {"block:254:16"}),
        ({"/proc/fs/jbd2": ["vda-8", "dm-0-8"]}, set()),
        ({}, set()),
    ],
)
def test_ext4_on_a_kernel_that_does_not_tell_its_journal(
    journals: dict[str, list[str]], found: set[str]
) -> None:
    """Then it is one of those that are journals, if these can be seen."""
    entry = mount("ext4", "rw", device="254:0")
    ground = survey(entry, folders=journals).ground(entry)
    assert (ground.below, set(ground.leans_on)) == ((), found)


POOLS = {
    "/sys/fs/btrfs": ["features", "one", "two"],
    "/sys/fs/btrfs/one/devices": ["vda"],
    "/sys/fs/btrfs/two/devices": ["vdb", "dm-0", "gone"],
}


def test_btrfs_stands_on_all_of_its_devices() -> None:
    entry = mount("btrfs", "rw,subvol=/x", source="/dev/vdb")
    assert below(entry, folders=POOLS) == ("block:253:0", "block:254:16")


def test_btrfs_leans_on_all_that_might_be_its_devices() -> None:
    entry = mount("btrfs", "rw", source="/dev/nothing")
    found = survey(entry, folders=POOLS).ground(entry)
    assert found.below == ()
    assert set(found.leans_on) == {"block:254:0", "block:253:0", "block:254:16"}


def test_btrfs_on_a_kernel_that_does_not_tell_its_devices() -> None:
    entry = mount("btrfs", "rw", source="/dev/vdb")
    found = survey(entry).ground(entry)
    assert found.below == ("block:254:16",)
    assert set(found.leans_on) == {"block:254:0", "block:253:0", "block:254:16"}


# -- servers and memory ----------------------------------------------------------------------------

LOCAL = "           |-- 10.0.2.15\n              /32 host LOCAL\n           |-- 10.0.2.2\n"


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("::1", True), ("10.0.2.15", True), ("10.0.2.2", False)],
)
def test_nfs_leans_on_the_server_of_this_machine(address: str, own: bool) -> None:
    entry = mount("nfs4", f"rw,vers=4.2,addr={address}")
    found = survey(entry, files={"/proc/net/fib_trie": LOCAL}).ground(entry)
    assert found.leans_on == (("nfsd",) if own else ())


def test_tmpfs_leans_on_swap_unless_a_disk_is_mounted_below() -> None:
    swaps = (SwapArea("/dev/vdb", "partition"),)
    seen = survey(*MOUNTS, at(6, "/oldroot/tmp", "tmpfs", "0:41"), swaps=swaps)
    by_id = {entry.id: entry for entry in seen.world.mounts}
    assert seen.ground(by_id[6]).leans_on == ("swap:/dev/vdb",)
    assert seen.ground(by_id[4]).leans_on == ()
