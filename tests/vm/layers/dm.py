"""What the device mapper maps, without a key.

What has metadata of its own is judged by it before it is opened, which changes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import NONE, ROOT, Common, OnOne, changes_in_memory


@dataclass(frozen=True)
class Linear(OnOne):
    """A dm device that maps another one as it is: what can be suspended below a stack."""

    name: str
    lower: str

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"linear {self.name}"

    def build(self) -> str:
        return self._create("")

    def judge(self) -> str:
        return f"opens {self.name} eval '{self._create('--readonly')}'"

    def _create(self, option: str) -> str:
        device = f"/dev/{self.lower}"
        return (
            f'echo "0 $(blockdev --getsz {device}) linear {device} 0" |'
            f" dmsetup create {option} {self.name}"
        )


@dataclass(frozen=True)
class Multipath(OnOne):
    """A device that reaches another one by one path, and queues all I/O when that is lost."""

    name: str
    lower: str

    modules: ClassVar[tuple[str, ...]] = ("dm-multipath", "dm-round-robin")
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"multipath {self.name}"

    def build(self) -> str:
        device = f"/dev/{self.lower}"
        path = f"round-robin 0 1 1 {device} 1000"
        return (
            f'echo "0 $(blockdev --getsz {device}) multipath 1 queue_if_no_path 0 1 1 {path}" |'
            f" dmsetup create {self.name}"
        )

    def judge(self) -> str:
        return f"opens {self.name} ln -sf ../{self.lower} /dev/mapper/{self.name}"


@dataclass(frozen=True)
class Written(OnOne):
    """Not a layer, but what can be written to in the second boot: a device there, read-only like
    its disk, is replaced by a snapshot of it in memory."""

    lower: str

    modules: ClassVar[tuple[str, ...]] = ("loop", "dm-snapshot")
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def name(self) -> str:
        return f"written:{self.lower}"

    @property
    def title(self) -> str:
        return f"{self.lower}, writable in the second boot"

    def build(self) -> str:
        return ""

    def judge(self) -> str:
        device, name = f"/dev/{self.lower}", f"written-{self.lower.replace('/', '-')}"
        return f"""
            mv {device} {device}.read
            {changes_in_memory(f"{self.lower}.read", name, mib=128)}
            ln -s /dev/mapper/{name} {device}"""


@dataclass(frozen=True)
class Slice(OnOne):
    """A piece of another device, `mib` MiB from the MiB `at` on. It begins with zeros, as what is
    to format itself wants it."""

    name: str
    lower: str
    at: int
    mib: int

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def title(self) -> str:
        return f"slice {self.name}"

    def build(self) -> str:
        zeros = f"dd if=/dev/zero of=/dev/mapper/{self.name} bs=64k count=1 conv=fsync status=none"
        return f"{self.judge()}\n{zeros}"

    def judge(self) -> str:
        words = f"linear /dev/{self.lower} {self.at * 2048}"
        return f'echo "0 {self.mib * 2048} {words}" | dmsetup create {self.name}'


def slices(lower: str, /, **sizes: int) -> tuple[Slice, ...]:
    """Cut a device into pieces of the given sizes in MiB, one behind the other."""
    found = []
    at = 0
    for name, mib in sizes.items():
        found.append(Slice(name, lower, at, mib))
        at += mib
    return tuple(found)


@dataclass(frozen=True)
class Mapped(Common):
    """A device of one target, `mib` MiB: `words` are its type and arguments, in which {0}, {1} …
    are the devices below. `looks` is shell text that prints the `facts` before it is opened, and
    `after` what else is to be done once it is built."""

    name: str
    below: tuple[str, ...]
    mib: int
    words: str
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()  # type: ignore[misc]
    looks: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    after: str = ""

    @property
    def title(self) -> str:
        return f"{self.words.split()[0]} {self.name}"

    @property
    def clean(self) -> Mapping[str, str]:
        return {"opens": "yes", **dict(self.facts)}

    def build(self) -> str:
        return f"{self._create()}\n{self.after}"

    def judge(self) -> str:
        return f"{self.looks}\nopens {self.name} eval '{self._create()}'"

    def _create(self) -> str:
        words = self.words.format(*(f"/dev/{each}" for each in self.below))
        return f'echo "0 {self.mib * 2048} {words}" | dmsetup create {self.name}'


def mirror(name: str, legs: tuple[str, str], log: str, mib: int) -> Mapped:
    """A mirror of the old kind, with regions of 1 MiB and a log in which each of them has a bit
    that says that it is the same on both: behind a header of 1 KiB, log_header_disk in
    drivers/md/dm-log.c."""
    regions = f"od -An -v -tx1 -j1024 -N{mib // 8} /dev/{log} | tr -d ' \n'"
    return Mapped(
        name,
        (log, *legs),
        mib,
        "mirror disk 3 {0} 2048 nosync 2 {1} 0 {2} 0",
        modules=("dm-mirror", "dm-log"),
        looks=f'fact {name} clean-regions "$({regions})"',
        facts=(("clean-regions", "ff" * (mib // 8)),),
    )


def era(name: str, metadata: str, lower: str, mib: int) -> Mapped:
    """A device that keeps in metadata what was written when."""
    return Mapped(
        name,
        (metadata, lower),
        mib,
        "era {0} {1} 128",
        modules=("dm-era",),
        programs=("usr/sbin/era_check",),
        looks=f"""
            /usr/sbin/era_check -q /dev/{metadata} && status=0 || status=$?
            fact {name} check $status""",
        facts=(("check", "0"),),
    )


def cache(name: str, metadata: str, fast: str, slow: str, mib: int) -> Mapped:
    """A cache that writes back later. Its metadata says whether it was shut down in order: bit 0 of
    the flags behind the checksum, cache_disk_superblock in drivers/md/dm-cache-metadata.c."""
    flags = f"od -An -tu4 -j4 -N4 /dev/{metadata}"
    return Mapped(
        name,
        (metadata, fast, slow),
        mib,
        "cache {0} {1} {2} 128 1 writeback smq 0",
        modules=("dm-cache", "dm-cache-smq"),
        programs=("usr/sbin/cache_check",),
        looks=f"""
            /usr/sbin/cache_check -q /dev/{metadata} && status=0 || status=$?
            fact {name} check $status
            fact {name} clean-shutdown $({flags})""",
        facts=(("check", "0"), ("clean-shutdown", "1")),
    )


@dataclass(frozen=True)
class ThinPool(Common):
    """A pool of thin volumes, `mib` MiB each: NAME-0, with a file system, and so many snapshots of
    it, which therefore have the same, NAME-1 …"""

    name: str
    metadata: str
    data: str
    mib: int
    snapshots: int

    modules: ClassVar[tuple[str, ...]] = ("dm-thin-pool",)
    programs: ClassVar[tuple[str, ...]] = ("usr/sbin/thin_check",)
    clean: ClassVar[Mapping[str, str]] = {"check": "0", "needs-check": "0", "opens": "yes"}

    @property
    def title(self) -> str:
        return f"thin pool {self.name}, {1 + self.snapshots} volumes"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.metadata, self.data)

    def build(self) -> str:
        return f"""
            {self._pool()}
            dmsetup message {self.name} 0 "create_thin 0"
            {self._volume("0")}
            mkfs.ext4 -q -E lazy_itable_init=0,nodiscard /dev/mapper/{self.name}-0
            dmsetup suspend {self.name}-0
            for i in $(seq {self.snapshots}); do
                dmsetup message {self.name} 0 "create_snap $i 0"
                {self._volume("$i")}
            done
            dmsetup resume {self.name}-0"""

    def judge(self) -> str:
        """Bit 0 of the flags says that a check is needed: thin_disk_superblock in
        drivers/md/dm-thin-metadata.c."""
        return f"""
            /usr/sbin/thin_check -q /dev/{self.metadata} && status=0 || status=$?
            fact {self.name} check $status
            fact {self.name} needs-check $(od -An -tu4 -j4 -N4 /dev/{self.metadata})
            opens {self.name} eval '{self._pool()}'
            for i in $(seq 0 {self.snapshots}); do {self._volume("$i")}; done"""

    def _pool(self) -> str:
        words = f"thin-pool /dev/{self.metadata} /dev/{self.data} 128 0 1 skip_block_zeroing"
        return f'echo "0 $(blockdev --getsz /dev/{self.data}) {words}" | dmsetup create {self.name}'

    def _volume(self, number: str) -> str:
        words = f"thin /dev/mapper/{self.name} {number}"
        return f'echo "0 {self.mib * 2048} {words}" | dmsetup create {self.name}-{number}'


@dataclass(frozen=True)
class Snapshot(Common):
    """A device NAME with a snapshot NAME-snap of the old kind, taken when the file FILE that is on
    its ext4 had the lines 1 to LINES. It is mounted at `at`; the snapshot must keep its file."""

    name: str
    real: str
    store: str
    at: str

    FILE: ClassVar[str] = "numbers"
    LINES: ClassVar[int] = 50_000
    modules: ClassVar[tuple[str, ...]] = ("dm-snapshot",)

    @property
    def title(self) -> str:
        return f"snapshot of {self.name}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.real, self.store)

    @property
    def clean(self) -> Mapping[str, str]:
        lines = "".join(f"{number}\n" for number in range(1, self.LINES + 1))
        return {"kept": hashlib.sha256(lines.encode()).hexdigest(), "fsck": "0", "opens": "yes"}

    def build(self) -> str:
        place = f"{ROOT}{self.at}"
        return f"""
            mkfs.ext4 -q -E lazy_itable_init=0,nodiscard /dev/{self.real}
            mkdir -p {place}
            mount -t ext4 /dev/{self.real} {place}
            seq {self.LINES} >{place}/{self.FILE}
            umount {place}
            {self._create()}
            mount -t ext4 /dev/mapper/{self.name} {place}"""

    def judge(self) -> str:
        """The origin's own file system is looked at too, and mounted for the files on it."""
        return f"""
            opens {self.name} eval '{self._create()}'
            e2fsck -fn /dev/mapper/{self.name} && status=0 || status=$?
            fact {self.name} fsck $status
            mkdir -p /tmp/{self.name} {ROOT}{self.at}
            mount -t ext4 -o ro,noload /dev/mapper/{self.name}-snap /tmp/{self.name}
            fact {self.name} kept $(sha256sum </tmp/{self.name}/{self.FILE} | cut -d" " -f1)
            mount -t ext4 -o ro,noload /dev/mapper/{self.name} {ROOT}{self.at}"""

    def _create(self) -> str:
        size = f"0 $(blockdev --getsz /dev/{self.real})"
        return f"""
            echo "{size} snapshot /dev/{self.real} /dev/{self.store} P 8" |
                dmsetup create {self.name}-snap
            echo "{size} snapshot-origin /dev/{self.real}" | dmsetup create {self.name}"""


@dataclass(frozen=True)
class Verity(Common):
    """A file system that nobody can change without being noticed, mounted read-only at `at`. What
    it is compared with stands in a file of the root."""

    name: str
    data: str
    sums: str
    at: str

    modules: ClassVar[tuple[str, ...]] = ("dm-verity",)
    programs: ClassVar[tuple[str, ...]] = ("sbin/veritysetup",)
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes", "verified": "yes"}

    @property
    def title(self) -> str:
        return f"verity {self.name}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.data, self.sums)

    def build(self) -> str:
        place, devices = f"{ROOT}{self.at}", f"/dev/{self.data} /dev/{self.sums}"
        return f"""
            mkfs.ext4 -q -E lazy_itable_init=0,nodiscard /dev/{self.data}
            mkdir -p {place}
            mount -t ext4 /dev/{self.data} {place}
            seq 10000 >{place}/numbers
            umount {place}
            veritysetup format {devices} | sed -n 's/^Root hash:[[:space:]]*//p' >{self._hash}
            {self._open()}
            mount -t ext4 -o ro /dev/mapper/{self.name} {place}"""

    def judge(self) -> str:
        return f"""
            opens {self.name} eval '{self._open()}'
            dd if=/dev/mapper/{self.name} of=/dev/null bs=1M && verified=yes || verified=no
            fact {self.name} verified $verified"""

    @property
    def _hash(self) -> str:
        return f"{ROOT}/{self.name}.hash"

    def _open(self) -> str:
        devices = f"/dev/{self.data} {self.name} /dev/{self.sums}"
        return f'veritysetup open {devices} "$(cat {self._hash})"'


@dataclass(frozen=True)
class OddDevices(Common):
    """Devices with the given names, and others that are odd in some other way, on the devices low1,
    low2 and low3, and doomed, a file system that goes with its device when it is unmounted."""

    name: str
    names: tuple[bytes, ...]

    modules: ClassVar[tuple[str, ...]] = ("dm-zero",)
    below: ClassVar[tuple[str, ...]] = ("mapper/low1", "mapper/low2", "mapper/low3")
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def title(self) -> str:
        return "odd devices"

    def build(self) -> str:
        octal = ("".join(rf"\{byte:03o}" for byte in name) for name in self.names)
        create = 'dmsetup create --manglename none --table "$on_low" --'
        names = "\n".join(f"{create} \"$(printf '{digits}')\"" for digits in octal)
        return f"""
            on_low="0 2048 linear /dev/mapper/low1 0"
            {names}
            # An inactive table beside a live one, without one, and where the live one is in use.
            dmsetup create two --table "0 2048 zero"
            dmsetup load two --table "0 2048 linear /dev/mapper/low2 0"
            dmsetup create one --notable
            dmsetup load one --table "0 2048 linear /dev/mapper/low3 0"
            dmsetup load twofold --table "0 32768 error"
            dmsetup create none --notable
            dmsetup create --uuid "odd uuid/'" --readonly numbered --table "$on_low"
            dmsetup create early --table "$on_low"
            dmsetup rename early late
            # What the kernel removes once it is closed, and what somebody waits for an event of.
            dmsetup remove --deferred doomed
            (exec -a @dmeventd dmsetup wait late) >/dev/null 2>&1 &"""

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class Slices(OnOne):
    """A disk in equal parts of `mib` MiB each, dm devices with a digit behind their name: members
    for arrays, of which there are more than disks."""

    name: str
    lower: str
    count: int
    mib: int

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"{self.count} parts of {self.lower}"

    def build(self) -> str:
        return self._create("")

    def judge(self) -> str:
        return f"opens {self.name} eval '{self._create('--readonly')}'"

    def _create(self, option: str) -> str:
        size = self.mib * 2048
        table = f"0 {size} linear /dev/{self.lower} $(({size} * each))"
        return (
            f"for each in $(seq 0 {self.count - 1}); do"
            f' echo "{table}" | dmsetup create {option} {self.name}$each; done'
        )

    def part(self, *numbers: int) -> tuple[str, ...]:
        """The paths of some of the parts."""
        return tuple(f"mapper/{self.name}{number}" for number in numbers)
