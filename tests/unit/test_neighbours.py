"""Neighbours of what is closed, one by one: locks, names of units, fstab, nodes, mdadm's map."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from finalstage.cli import fstab
from finalstage.cli.close import clusters, device_nodes, left_over, lock_files, lvm, returning
from finalstage.cli.errors import RefusalError
from finalstage.cli.systemd import escape, escape_word
from finalstage.kernel import Kernel
from finalstage.kernel.linux import LinuxKernel
from finalstage.layers.dm import Dm
from finalstage.layers.md import Md
from finalstage.layers.mount import Mount
from finalstage.stack import Layer, Stack

VG = "bLsTmUTXC635LAB5TicOOQMuEzdHef2m"


def volume(name: str, *below: str, minor: int = 0) -> Dm:
    """Return a volume of a group."""
    uuid = f"LVM-{VG}{minor:032}"
    return Dm(f"block:253:{minor}", "dm", "linear", name, below, device=f"253:{minor}", uuid=uuid)


DISK = Layer("block:8:0", "disk", "disk", "sda", device="8:0", closes=False, is_disk=True)
LEG = volume("two-srv_rimage_0", DISK.id, minor=1)
SRV = volume("two-srv", LEG.id, minor=2)
OTHER = volume("a--b-c", DISK.id, minor=3)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "-"),
        ("/srv", "srv"),
        ("//srv/my data/", r"srv-my\x20data"),
        ("/a-b/.c", r"a\x2db-.c"),
        ("/.c", r"\x2ec"),
        ("/dev/mapper/x", "dev-mapper-x"),
        ("/ü\n", r"\xc3\xbc\x0a"),
    ],
)
def test_paths_are_escaped_as_systemd_does(path: str, name: str) -> None:
    """Each was made by systemd-escape --path."""
    assert escape(path) == name


def test_words_are_escaped_as_systemd_does() -> None:
    assert escape_word("my-data/x y") == r"my\x2ddata-x\x20y"


def test_places_in_fstab() -> None:
    text = (
        "# /dev/sda1 /no ext4\n\n/dev/sda1 / ext4\nUUID=1 /my\\040data ext4 nofail 0 0\n"
        "/dev/sda2 none swap sw\n/dev/sda3 /by-hand xfs noauto\nbad line\n"
        "/dev/sda4 /my\\040data/ xfs\n"
    )
    assert returning.fstab_places(fstab.parse(text)) == {"/": 3, "/my data": 8}


def test_groups_are_in_the_order_in_which_they_are_locked() -> None:
    assert list(lvm.groups([SRV, OTHER, DISK])) == ["a-b", "two"]
    assert lvm.physical_volumes(Stack((DISK, LEG, SRV)), SRV) == [DISK]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lvm, "CONFIGURATION", (str(tmp_path / "lvm.conf"),))
    monkeypatch.setattr(lvm, "LOCK_SECONDS", 0.2)
    place = tmp_path / "locks"
    (tmp_path / "lvm.conf").write_text(f'global {{\n\tlocking_dir = "{place}"\n}}\n')
    return place


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return LinuxKernel()


@pytest.fixture
def taken(folder: Path) -> Iterator[int]:
    """Somebody else has the lock of the group two: return who."""
    folder.mkdir()
    command = ("flock", "--no-fork", folder / "V_two", "sh", "-c", "echo; exec sleep 1000")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.read(1)
        yield other.pid
        other.kill()


def try_lock(path: Path) -> bool:
    """Whether somebody else could have a lock."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_lock_is_held_and_removed(kernel: Kernel, folder: Path) -> None:
    with lvm.locked(kernel, ["a", "two"]):
        assert sorted(os.listdir(folder)) == ["V_a", "V_two"]
        assert not try_lock(folder / "V_two")
    assert os.listdir(folder) == []


def test_who_holds_a_lock_is_named(kernel: Kernel, folder: Path, taken: int) -> None:
    with (
        pytest.raises(RefusalError, match=rf"group two is locked by (sh|sleep)\[{taken}\]; wait"),
        lvm.locked(kernel, ["a", "two"]),
    ):
        pytest.fail("it was locked")
    assert os.listdir(folder) == ["V_two"], "the lock of a has stayed"


def test_a_lock_that_its_holder_removed_is_none(kernel: Kernel, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock_files.held(kernel, path, 0):
        path.unlink()
        with lock_files.held(kernel, path, 0):
            assert path.exists()
        assert not path.exists()
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError), lock_files.held(kernel, path, 0):
            pytest.fail("it was locked")


def test_a_lock_whose_file_went_before_it_was_had(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had it removes the file after we have opened it: a lock on that means nothing."""
    path = tmp_path / "lock"
    removals = [path.unlink]

    def flock(fd: int, how: int) -> None:
        if removals:
            removals.pop()()
        fcntl.flock(fd, how)

    monkeypatch.setattr(lock_files, "fcntl", SimpleNamespace(**vars(fcntl) | {"flock": flock}))
    with lock_files.held(kernel, path, 0):
        assert not try_lock(path)


def test_where_no_lock_can_be_made(kernel: Kernel, folder: Path) -> None:
    folder.write_text("")
    with (
        pytest.raises(
            RefusalError, match=r"cannot lock volume group two in .*; make .* a directory"
        ),
        lvm.locked(kernel, ["two"]),
    ):
        pytest.fail("it was locked")


class Cluster:
    """A kernel on which some files are, and nothing else."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def read(self, path: str) -> bytes:
        if path in self.files:
            return self.files[path].encode()
        raise FileNotFoundError(path)

    def listdir(self, path: str) -> list[str]:
        names = {x[len(path) + 1 :].split("/")[0] for x in self.files if x.startswith(f"{path}/")}
        if not names:
            raise FileNotFoundError(path)
        return sorted(names)


GFS2 = Mount("mount:9", "mount", "gfs2", "/shared data", device="253:7", target="/shared data")
ARRAY = Md("block:9:1", "md", "raid1", "md1", device="9:1")
LOCKSPACE = volume("two-lvmlock", DISK.id, minor=9)


@pytest.mark.parametrize(
    ("layer", "files", "words"),
    [
        (
            SRV,
            {"/sys/kernel/dlm/lvm_two/control": ""},
            r"by lvmlockd \(dlm\); use `vgchange -an two`",
        ),
        (
            ARRAY,
            {"/sys/dev/block/9:1/md/bitmap/metadata": "clustered\n"},
            "`mdadm --stop /dev/md1`",
        ),
        (
            GFS2,
            {
                "/sys/fs/gfs2/a:b/id": "253:7\n",
                "/sys/fs/gfs2/a:b/lock_module/proto_name": "lock_dlm\n",
            },
            "by lock_dlm; use `umount '/shared data'`",
        ),
        (GFS2.but(type="ocfs2"), {}, "by OCFS2's heartbeat"),
    ],
)
def test_what_a_cluster_holds_is_refused(layer: Layer, files: dict[str, str], words: str) -> None:
    (line,) = refusals(layer, files)
    assert line.startswith(f"cannot close {layer.title}: ") and re.search(words, line), line


@pytest.mark.parametrize(
    ("layer", "files"),
    [
        (ARRAY, {"/sys/dev/block/9:1/md/bitmap/metadata": "internal\n"}),
        (
            GFS2,
            {
                "/sys/fs/gfs2/a:b/id": "253:7\n",
                "/sys/fs/gfs2/a:b/lock_module/proto_name": "lock_nolock\n",
            },
        ),
        (GFS2.but(type="ocfs2", super_options="rw,heartbeat=none"), {}),
    ],
)
def test_what_one_machine_has_alone_is_not(layer: Layer, files: dict[str, str]) -> None:
    assert refusals(layer, files) == []


def refusals(layer: Layer, files: dict[str, str]) -> list[str]:
    stack = Stack((DISK, LEG, SRV, ARRAY, GFS2))
    return clusters.refusals(cast(Kernel, Cluster(files)), stack, [layer])


def test_the_volume_with_sanlocks_locks_gives_a_group_away() -> None:
    stack = Stack((DISK, LEG, SRV, LOCKSPACE))
    (line,) = clusters.refusals(cast(Kernel, Cluster({})), stack, [SRV])
    assert "lvmlockd (sanlock)" in line


def test_names_of_what_is_there_are_right() -> None:
    """Neither a device that is there, nor a link that leads elsewhere by now, is stale."""
    names = device_nodes.names()
    assert all(device_nodes._is_gone(device) or not device_nodes._is_stale(path, device)
               for path, device in names.items())  # fmt: skip


def test_stale_names_are_removed(kernel: Kernel, tmp_path: Path) -> None:
    """A link that leads nowhere, as udev's would; not one that leads to something else."""
    (tmp_path / "stale").symlink_to(tmp_path / "gone")
    (tmp_path / "right").symlink_to("/dev/null")
    (tmp_path / "file").touch()
    names = {str(tmp_path / name): "253:4095" for name in ("stale", "right", "file", "not-there")}
    assert device_nodes.settle(kernel, names, ["253:4095"]) == []
    assert sorted(os.listdir(tmp_path)) == ["file", "right"]


def test_arrays_are_taken_out_of_the_map(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map"
    monkeypatch.setattr(left_over, "MAP", path)
    path.write_text("md1 1.2 a:b:c:d /dev/md/one\nmd10 1.2 a:b:c:d /dev/md/ten\n")
    assert left_over.note(kernel, [ARRAY]) == []
    assert path.read_text() == "md10 1.2 a:b:c:d /dev/md/ten\n"
    assert os.listdir(tmp_path) == ["map"]


def test_a_group_that_udev_activated_may_be_again(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_over, "ONLINE", tmp_path)
    for name in ("two", "three"):
        (tmp_path / name).touch()
    assert left_over.note(kernel, [SRV]) == []
    assert os.listdir(tmp_path) == ["three"]
