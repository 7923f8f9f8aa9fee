"""Swap areas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import NONE, Common


@dataclass(frozen=True)
class Swap(Common):
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

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    def build(self) -> str:
        return f"mkswap /dev/{self.lower} >/dev/null\nswapon /dev/{self.lower}"

    def judge(self) -> str:
        return ""
