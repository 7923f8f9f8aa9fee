"""What the device mapper maps, without a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import Common


@dataclass(frozen=True)
class Linear(Common):
    """A dm device that maps another one as it is: what can be suspended below a stack."""

    name: str
    lower: str

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"linear {self.name}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

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
class Multipath(Common):
    """A device that reaches another one by one path, and queues all I/O when that is lost."""

    name: str
    lower: str

    modules: ClassVar[tuple[str, ...]] = ("dm-multipath", "dm-round-robin")
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"multipath {self.name}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    def build(self) -> str:
        device = f"/dev/{self.lower}"
        path = f"round-robin 0 1 1 {device} 1000"
        return (
            f'echo "0 $(blockdev --getsz {device}) multipath 1 queue_if_no_path 0 1 1 {path}" |'
            f" dmsetup create {self.name}"
        )

    def judge(self) -> str:
        return f"opens {self.name} ln -sf ../{self.lower} /dev/mapper/{self.name}"
