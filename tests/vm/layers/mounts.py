"""Mounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import NONE, ROOT, Common


@dataclass(frozen=True)
class Ext4(Common):
    """An ext4 file system, mounted at `at` (an absolute path in the guest's own root)."""

    lower: str
    at: str
    options: str = "defaults"

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {
        "state": "clean",
        "needs_recovery": "0",
        "fsck": "0",
        "opens": "yes",
    }

    @property
    def name(self) -> str:
        return f"ext4:{self.at}"

    @property
    def title(self) -> str:
        return f"ext4 {self.at}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    def build(self) -> str:
        return f"""
            mkfs.ext4 -q -E lazy_itable_init=0,nodiscard /dev/{self.lower}
            mkdir -p {ROOT}{self.at}
            mount -t ext4 -o {self.options} /dev/{self.lower} {ROOT}{self.at}"""

    def judge(self) -> str:
        return f"""
            dumpe2fs -h /dev/{self.lower} >/tmp/header 2>&1
            grep -E '^Filesystem (features|state):' /tmp/header
            fact {self.name} state "$(sed -n 's/^Filesystem state: *//p' /tmp/header)"
            fact {self.name} needs_recovery "$(grep -c '^Filesystem feat.*needs_rec' /tmp/header)"
            e2fsck -fn /dev/{self.lower} && status=0 || status=$?
            fact {self.name} fsck "$status"
            mkdir -p {ROOT}
            opens {self.name} mount -t ext4 -o ro $(replayed /dev/{self.lower}) {ROOT}{self.at}"""


@dataclass(frozen=True)
class Bind(Common):
    """A bind mount of one folder of the guest on another."""

    source: str
    at: str

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE
    below: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        return f"bind:{self.at}"

    @property
    def title(self) -> str:
        return f"{self.source} bound to {self.at}"

    def build(self) -> str:
        places = f"{ROOT}{self.source} {ROOT}{self.at}"
        return f"mkdir -p {places}\nmount -o bind {places}"

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class Xfs(Common):
    """An xfs file system, mounted at `at`."""

    lower: str
    at: str

    modules: ClassVar[tuple[str, ...]] = ("xfs",)
    programs: ClassVar[tuple[str, ...]] = ("sbin/mkfs.xfs", "sbin/xfs_repair")
    clean: ClassVar[Mapping[str, str]] = {"repair": "0", "opens": "yes"}

    @property
    def name(self) -> str:
        return f"xfs:{self.at}"

    @property
    def title(self) -> str:
        return f"xfs {self.at}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    def build(self) -> str:
        return f"""
            mkfs.xfs -q -f -K /dev/{self.lower}
            mkdir -p {ROOT}{self.at}
            mount -t xfs /dev/{self.lower} {ROOT}{self.at}"""

    def judge(self) -> str:
        """Look for damage, and for a log that would have to be replayed: xfs_repair says either."""
        return f"""
            xfs_repair -n /dev/{self.lower} && status=0 || status=$?
            fact {self.name} repair "$status"
            mkdir -p {ROOT}{self.at}
            opens {self.name} mount -t xfs -o ro,norecovery /dev/{self.lower} {ROOT}{self.at}"""
