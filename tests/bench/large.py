"""Machines of any size, as scan sees them: for the cost of scanning and planning alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from errno import ENOENT, ENXIO

from finalstage.kernel import DmStatus, Stat, Target
from finalstage.world import BLOCKS
from tests.instant import Instant

SECTORS = 1 << 20


class Shelf(Instant):
    """The part of a `Kernel` that scan uses: whatever is read lies ready, and nothing waits."""

    pid = 1

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: dict[str, list[str]] = {BLOCKS: []}
        self.statuses: dict[str, DmStatus] = {}
        self.mounts = ["1 0 0:1 / / rw - tmpfs tmpfs rw"]
        self.layers = 1

    # What scan asks for

    def read(self, path: str) -> bytes:
        if path == "/proc/self/mountinfo":
            return "\n".join(self.mounts).encode()
        try:
            return self.files[path]
        except KeyError:
            raise OSError(ENOENT, os.strerror(ENOENT), path) from None

    def listdir(self, path: str) -> list[str]:
        try:
            return self.folders[path]
        except KeyError:
            raise OSError(ENOENT, os.strerror(ENOENT), path) from None

    def readlink(self, path: str) -> str:
        return self.read(path).decode()

    def stat(self, path: str) -> Stat:
        raise OSError(ENOENT, os.strerror(ENOENT), path)

    def dm_status(self, device: str) -> DmStatus:
        try:
            return self.statuses[device]
        except KeyError:
            raise OSError(ENXIO, os.strerror(ENXIO), device) from None

    dm_info = dm_status

    # What it is made of

    def block(self, name: str, device: str, slaves: Iterable[str] = (), own: str = "") -> str:
        """Add a block device whose folder in /sys has one of its `own` kind; return its name."""
        path = f"{BLOCKS}/{name}"
        self.folders[BLOCKS].append(name)
        self.folders[path] = ["dev", "size", "slaves", "holders", "stat", *((own,) if own else ())]
        self.folders[f"{path}/slaves"] = list(slaves)
        self.files[f"{path}/dev"] = f"{device}\n".encode()
        self.files[f"{path}/size"] = f"{SECTORS}\n".encode()
        self.layers += 1
        return name

    def disk(self, number: int) -> str:
        """Add a disk."""
        return self.block(f"vd{number}", f"252:{number}")

    def mapped(self, number: int, type: str, below: str) -> str:
        """Add a device-mapper device with one target."""
        device = f"253:{number}"
        self.statuses[device] = DmStatus(
            name=f"{type}{number}",
            uuid=f"CRYPT-{number}",
            open_count=0,
            suspended=False,
            readonly=False,
            live_table=True,
            inactive_table=False,
            targets=(Target(0, SECTORS, type),),
        )
        return self.block(f"dm-{number}", device, (below,), "dm")

    def mirror(self, number: int, below: Iterable[str]) -> str:
        """Add an array."""
        name = self.block(f"md{number}", f"9:{number}", below, "md")
        for file, text in (
            ("array_state", "clean"), ("metadata_version", "1.2"), ("level", "raid1"),
            ("bitmap/location", "none"),
        ):  # fmt: skip
            self.files[f"{BLOCKS}/{name}/md/{file}"] = f"{text}\n".encode()
        return name

    def loop(self, number: int, path: str) -> str:
        """Add a loop device."""
        name = self.block(f"loop{number}", f"7:{number}", (), "loop")
        self.files[f"{BLOCKS}/{name}/loop/backing_file"] = f"{path}\n".encode()
        return name

    def mount(self, target: str, fstype: str, device: str, more: str = "", parent: int = 1) -> int:
        """Add a mount, and return its id."""
        id = len(self.mounts) + 1
        options = f"rw,{more}" if more else "rw"
        line = f"{id} {parent} {device} / {target} rw,relatime - {fstype} {fstype} {options}"
        self.mounts.append(line)
        self.layers += 1
        return id

    def mount_block(self, target: str, name: str, parent: int = 1) -> int:
        """Add a mount of an ext4 on a block device."""
        self.files[f"/sys/fs/ext4/{name}/journal_task"] = b"77\n"
        self.files["/proc/77/comm"] = b"jbd2/other-8\n"
        device = self.files[f"{BLOCKS}/{name}/dev"].decode().strip()
        return self.mount(target, "ext4", device, parent=parent)


def storage_server(layers: int) -> Shelf:
    """Mirrors of disks, each with LUKS on it, and in that three volumes that are mounted."""
    shelf = Shelf()
    for unit in range(layers // 10):
        array = shelf.mirror(unit, (shelf.disk(2 * unit), shelf.disk(2 * unit + 1)))
        crypt = shelf.mapped(4 * unit, "crypt", array)
        for volume in range(1, 4):
            name = shelf.mapped(4 * unit + volume, "linear", crypt)
            shelf.mount_block(f"/srv/{unit}/{volume}", name)
    return shelf


def container_host(layers: int) -> Shelf:
    """Containers, each an overlay with mounts in it, one of them an image on a loop device; all of
    them lie on one file system."""
    shelf = Shelf()
    root = shelf.mount_block("/var/lib", shelf.mapped(0, "crypt", shelf.disk(0)))
    for unit in range(layers // 6):
        home = f"/var/lib/containers/{unit}"
        directories = ":".join(f"/var/lib/images/{(unit + i) % 97}/diff" for i in range(3))
        options = f"lowerdir={directories},upperdir={home}/diff,workdir={home}/work"
        overlay = shelf.mount(f"{home}/merged", "overlay", f"0:{unit + 100}", options, root)
        shelf.mount(f"{home}/merged/dev/shm", "tmpfs", f"0:{unit + 10**6}", parent=overlay)
        shelf.mount(f"/run/netns/{unit}", "nsfs", "0:4")
        shelf.mount(f"{home}/merged/etc/hosts", "ext4", "253:0", parent=overlay)
        image = shelf.loop(unit, f"/var/lib/images/{unit}.img")
        shelf.mount_block(f"{home}/merged/data", image, parent=overlay)
    return shelf


def chain(layers: int) -> Shelf:
    """Devices that stand on one another, ten deep."""
    shelf = Shelf()
    for unit in range(layers // 11):
        lower = shelf.disk(unit)
        for number in range(10):
            lower = shelf.mapped(10 * unit + number, "linear", lower)
    return shelf
