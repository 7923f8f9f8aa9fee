"""Loop devices, and what stands on files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import ROOT, Common, OnOne
from tests.vm.layers.keyed import Luks
from tests.vm.layers.mounts import Ext4


def _file(path: str, mib: int) -> str:
    """Shell text that makes an empty file."""
    whole = f"{ROOT}{path}"
    return f"mkdir -p {whole.rpartition('/')[0]}; truncate -s {mib}M {whole}"


@dataclass(frozen=True)
class Loop(Common):
    """The loop device `name` on a file of `mib` MiB; what is partitioned in it, it shows."""

    name: str
    file: str
    mib: int

    modules: ClassVar[tuple[str, ...]] = ("loop",)
    below: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"{self.name} on {self.file}"

    def build(self) -> str:
        return f"{_file(self.file, self.mib)}\nlosetup -P /dev/{self.name} {ROOT}{self.file}"

    def judge(self) -> str:
        return f"opens {self.name} losetup -r -P /dev/{self.name} {ROOT}{self.file}"


@dataclass(frozen=True)
class LuksFile(Luks):
    """LUKS in the file `lower` of `mib` MiB, on a loop device that cryptsetup makes and that goes
    by itself."""

    mib: int = 0

    modules: ClassVar[tuple[str, ...]] = ("loop",)

    @property
    def below(self) -> tuple[str, ...]:
        return ()

    @property
    def device(self) -> str:
        return f"{ROOT}{self.lower}"

    def build(self) -> str:
        header = f"dd if=/run/tray/{self.name}.header of={self.device} bs=64k conv=notrunc,fsync"
        return f"{_file(self.lower, self.mib)}\n{header} status=none\n{self.opening(self.options)}"


@dataclass(frozen=True)
class Circle(OnOne):
    """ext4 on a device that goes on in a file of `mib` MiB in this very file system, as a volume
    does that is extended to a loop device.

    Without barriers: with them the first one waits for itself.
    """

    mapped: str
    lower: str
    at: str
    mib: int
    loop: str = "loop7"

    modules: ClassVar[tuple[str, ...]] = ("loop",)
    programs: ClassVar[tuple[str, ...]] = ("sbin/resize2fs",)

    @property
    def _file_system(self) -> Ext4:
        return Ext4(f"mapper/{self.mapped}", self.at)

    @property
    def name(self) -> str:
        return self._file_system.name

    @property
    def clean(self) -> Mapping[str, str]:
        return self._file_system.clean

    @property
    def title(self) -> str:
        return f"circle of ext4 {self.at}, {self.mapped} and {self.loop}"

    def _table(self, rest: str) -> str:
        """Shell text that prints a table; `rest` is what follows the disk."""
        size = f"$(blockdev --getsz /dev/{self.lower})"
        first = f"0 {size} linear /dev/{self.lower} 0"
        return f'printf "%s\\n" "{first}" "{size} {self.mib * 2048} {rest}"'

    def build(self) -> str:
        place, mapped = f"{ROOT}{self.at}", f"/dev/mapper/{self.mapped}"
        return f"""
            echo "0 $(blockdev --getsz /dev/{self.lower}) linear /dev/{self.lower} 0" |
                dmsetup create {self.mapped}
            mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,nodiscard {mapped}
            mkdir -p {place}
            mount -t ext4 -o barrier=0 {mapped} {place}
            dd if=/dev/zero of={place}/image bs=1M count={self.mib} conv=fsync status=none
            losetup /dev/{self.loop} {place}/image
            {self._table(f"linear /dev/{self.loop} 0")} | dmsetup load {self.mapped}
            dmsetup resume {self.mapped}
            resize2fs {mapped}"""

    def judge(self) -> str:
        """The first part is enough to read the file that has the second one."""
        part = f"{self.mapped}-part"
        return f"""
            {self._table("zero")} | dmsetup create --readonly {part}
            mkdir -p /tmp/{part}
            mount -t ext4 -o ro,noload /dev/mapper/{part} /tmp/{part}
            losetup -r /dev/{self.loop} /tmp/{part}/image
            {self._table(f"linear /dev/{self.loop} 0")} | dmsetup create --readonly {self.mapped}
            {self._file_system.judge()}"""
