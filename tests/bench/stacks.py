"""What the contestants close: stacks, and for the oracle what to do to each, by heart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import ROOT, Common, Ext4, Layer, Luks
from tests.vm.stacks import MAIN, Stack, on

PIECE = 4
"""MiB of one of many small devices."""

AT_ONCE = 100
"""How many mounts are built by one order to the guest, which has a minute for it."""

LONG_LOG = "log_buf_len=2M"
"""For the guest's kernel, where finalstage leaves more records than its log usually holds."""


def machine(*disks: Disk, **more: Any) -> Hardware:
    """What all of them are made of."""
    return Hardware(disks, processors=2, **more)


@dataclass(frozen=True)
class Trial:
    """A stack, what the oracle does to it, shell text for just before, and the disks that are slow
    then."""

    name: str
    stack: Stack
    plan: tuple[str, ...]
    before: str = ""
    slow: tuple[str, ...] = ()

    @property
    def encrypted(self) -> bool:
        """Whether there is a key in it."""
        return any(isinstance(layer, Luks) for layer in self.stack.layers)


@dataclass(frozen=True)
class ManyMounts(Common):
    """So many small ext4, each on a linear device; below every second one is another such device.

    So there are half as many devices again as mounts. `first` is the number of the first one.
    """

    lower: str
    count: int
    first: int = 0

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {}
    name: ClassVar[str] = "many"
    title: ClassVar[str] = "many mounts"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    @property
    def numbers(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + self.count)

    @property
    def plan(self) -> tuple[str, ...]:
        """What closes them."""
        mounts = [f"umount /many/{number}" for number in self.numbers]
        upper = [f"remove u{number}" for number in self.numbers[::2]]
        return (*mounts, *upper, *(f"remove d{number}" for number in self.numbers))

    def build(self) -> str:
        size, last = PIECE << 11, self.numbers[-1]
        return f"""
            device=/dev/{self.lower}
            for i in $(seq {self.first} {last}); do
                echo "d$i,,,rw,0 {size} linear $device $((i * {size}))"
            done | tr '\\n' ';' >/tmp/lower
            dmsetup create --concise "$(cat /tmp/lower)"
            for i in $(seq {self.first} 2 {last}); do
                echo "u$i,,,rw,0 {size} linear /dev/mapper/d$i 0"
            done | tr '\\n' ';' >/tmp/upper
            dmsetup create --concise "$(cat /tmp/upper)"
            for i in $(seq {self.first} {last}); do
                device=/dev/mapper/d$i
                [ ! -e /dev/mapper/u$i ] || device=/dev/mapper/u$i
                mkdir -p {ROOT}/many/$i
                mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard $device
                mount -t ext4 $device {ROOT}/many/$i
            done"""

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class Chains(Common):
    """So many chains of linear devices, each `depth` deep, on one device."""

    lower: str
    count: int
    depth: int

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {}
    name: ClassVar[str] = "chains"
    title: ClassVar[str] = "chains of devices"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    @property
    def plan(self) -> tuple[str, ...]:
        """What closes them."""
        levels = range(self.depth - 1, -1, -1)
        return tuple(f"remove c{i}-{level}" for level in levels for i in range(self.count))

    def build(self) -> str:
        size = PIECE << 11
        return f"""
            for level in $(seq 0 {self.depth - 1}); do
                for i in $(seq 0 {self.count - 1}); do
                    below="/dev/{self.lower} $((i * {size}))"
                    [ $level = 0 ] || below="/dev/mapper/c$i-$((level - 1)) 0"
                    echo "c$i-$level,,,rw,0 {size} linear $below"
                done | tr '\\n' ';' >/tmp/level
                dmsetup create --concise "$(cat /tmp/level)"
            done"""

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class Images(Common):
    """So many files on the root, each with an ext4 that is mounted by a loop device.

    `first` is the number of the first one.
    """

    count: int
    first: int = 0

    modules: ClassVar[tuple[str, ...]] = ("loop",)
    clean: ClassVar[Mapping[str, str]] = {}
    below: ClassVar[tuple[str, ...]] = ()
    name: ClassVar[str] = "images"
    title: ClassVar[str] = "images"

    @property
    def numbers(self) -> range:
        """Their numbers."""
        return range(self.first, self.first + self.count)

    @property
    def plan(self) -> tuple[str, ...]:
        """What closes them."""
        mounts = [f"umount /images/{number}" for number in self.numbers]
        return (*mounts, *(f"detach loop{number}" for number in self.numbers))

    def build(self) -> str:
        return f"""
            mkdir -p {ROOT}/images
            for i in $(seq {self.first} {self.numbers[-1]}); do
                truncate -s {PIECE}M {ROOT}/images/$i.img
                mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 {ROOT}/images/$i.img
                [ -e /dev/loop$i ] || mknod /dev/loop$i b 7 $i
                losetup /dev/loop$i {ROOT}/images/$i.img
                mkdir {ROOT}/images/$i
                mount -t ext4 /dev/loop$i {ROOT}/images/$i
            done"""

    def judge(self) -> str:
        return ""


def _many(count: int) -> Trial:
    layers = [ManyMounts("disk/b", AT_ONCE, first) for first in range(0, count, AT_ONCE)]
    memory = 512 if count < 400 else 1024
    stack = Stack(
        f"{count} mounts",
        machine(Disk("a", 128), Disk("b", count * PIECE), memory=memory, command_line=LONG_LOG),
        (Ext4("disk/a", "/"), *layers),
        files=(),
    )
    plan = [line for layer in layers for line in layer.plan]
    return Trial(stack.name, stack, (*plan, "umount /run", "umount /"))


def _chains() -> Trial:
    layer = Chains("disk/b", 30, 10)
    stack = Stack(
        "300 devices, 10 deep",
        machine(Disk("a", 128), Disk("b", 30 * PIECE), command_line=LONG_LOG),
        (Ext4("disk/a", "/"), layer),
        files=(),
    )
    return Trial(stack.name, stack, (*layer.plan, "umount /run", "umount /"))


def _images() -> Trial:
    layers = [Images(AT_ONCE, first) for first in range(0, 200, AT_ONCE)]
    plan = [line for layer in layers for line in layer.plan]
    stack = Stack(
        "200 images on LUKS",
        machine(Disk("a", 1024), command_line=LONG_LOG),
        (Luks("crypt", "disk/a"), Ext4("mapper/crypt", "/"), *layers),
        files=(),
    )
    return Trial(stack.name, stack, (*plan, "umount /run", "umount /", "remove crypt"))


SLOW_DISKS = tuple("bcdefghi")
SLOW_MIB = 4
"""MiB a second that a throttled disk takes."""


def slow(disks: tuple[str, ...], dirty: int = 8) -> Trial:
    """File systems on throttled disks, each with so many MiB that were not written yet."""
    mounts: tuple[Layer, ...] = tuple(Ext4(f"disk/{disk}", f"/{disk}") for disk in disks)
    stack = Stack(
        f"{len(disks)} slow disk{'s' if len(disks) > 1 else ''}",
        machine(Disk("a", 128), *(Disk(disk, 64) for disk in disks)),
        (Ext4("disk/a", "/"), *mounts),
        files=(),
    )
    write = f"dd if=/dev/zero bs=1M count={dirty} status=none"
    return Trial(
        stack.name,
        stack,
        (*(f"umount /{disk}" for disk in disks), "umount /run", "umount /"),
        "\n".join(f"{write} of=/{disk}/data" for disk in disks),
        disks,
    )


MAIN_TRIAL = Trial(
    "main",
    on(MAIN, processors=2),
    ("umount /run", "umount /", "remove vg-root", "remove crypt", "stop md0"),
)
TRIALS = (
    MAIN_TRIAL,
    _many(100),
    _many(400),
    _many(1000),
    _chains(),
    _images(),
    slow(SLOW_DISKS),
    slow(SLOW_DISKS[:1]),
)
