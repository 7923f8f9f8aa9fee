"""Swap areas, and block devices that live in memory."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import NONE, ROOT, Common, OnOne


@dataclass(frozen=True)
class Swap(OnOne):
    """A swap area in use. What was in it is of no worth to a second boot."""

    lower: str

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def name(self) -> str:
        return f"swap:{self.lower}"

    @property
    def title(self) -> str:
        return "swap"

    def build(self) -> str:
        return f"mkswap /dev/{self.lower} >/dev/null\nswapon /dev/{self.lower}"

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class SwapFile(Common):
    """A file of `mib` MiB at `path`, swapped to."""

    path: str
    mib: int

    modules: ClassVar[tuple[str, ...]] = ()
    below: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def name(self) -> str:
        return f"swap:{self.path}"

    @property
    def title(self) -> str:
        return f"swap in {self.path!r}"

    def build(self) -> str:
        file = shlex.quote(f"{ROOT}{self.path}")
        return f"""
            mkdir -p {shlex.quote(f"{ROOT}{self.path.rpartition('/')[0]}")}
            dd if=/dev/zero of={file} bs=1M count={self.mib} status=none
            chmod 600 {file}
            mkswap {file} >/dev/null
            swapon {file}"""

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class Zram(Common):
    """A device of `mib` MiB in compressed memory; with `at` there is ext4 on it, mounted there.

    A second boot finds nothing of it.
    """

    name: str
    mib: int
    at: str = ""

    modules: ClassVar[tuple[str, ...]] = ("zram",)
    below: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def title(self) -> str:
        return f"zram {self.name} {self.at}".rstrip()

    def build(self) -> str:
        lines = [
            f"[ -d /sys/block/{self.name} ] || cat /sys/class/zram-control/hot_add",
            f"echo {self.mib}M >/sys/block/{self.name}/disksize",
        ]
        if self.at:
            lines += [
                f"mkfs.ext4 -q /dev/{self.name}",
                f"mkdir -p {ROOT}{self.at}",
                f"mount -t ext4 /dev/{self.name} {ROOT}{self.at}",
            ]
        return "\n".join(lines)

    def judge(self) -> str:
        return ""
