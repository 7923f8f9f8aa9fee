"""md arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.vm.layers.base import Common, copy, devices, writable


@dataclass(frozen=True)
class Raid(Common):
    """An md array with metadata 1.2 on its members. With `written` the second boot can write to
    what lies on it, though not to the members."""

    name: str
    below: tuple[str, ...]
    level: int = 1
    written: bool = False

    @property
    def title(self) -> str:
        return f"RAID{self.level} {self.name}"

    @property
    def modules(self) -> tuple[str, ...]:
        return ("raid456" if self.level in (4, 5, 6) else f"raid{self.level}",)

    @property
    def clean(self) -> Mapping[str, str]:
        return {"clean-members": str(len(self.below)), "event-counts": "1", "opens": "yes"}

    def build(self) -> str:
        return (
            f"mdadm --create /dev/{self.name} --quiet --run --level={self.level} --metadata=1.2"
            f" --bitmap=none --assume-clean --raid-devices={len(self.below)} {devices(self.below)}"
        )

    def judge(self) -> str:
        """Ask each member's superblock for its state, and whether all count the same events."""
        members, copies, option = devices(self.below), "", "--readonly"
        if self.written:
            members = " ".join(f"/dev/mapper/{copy(each)}" for each in self.below)
            copies, option = "".join(map(writable, self.below)), ""
        return f"""
            mdadm --examine {devices(self.below)} >/tmp/{self.name} 2>&1
            cat /tmp/{self.name}
            fact {self.name} clean-members "$(grep -c 'State : clean' /tmp/{self.name})"
            fact {self.name} event-counts "$(grep 'Events :' /tmp/{self.name} | sort -u | wc -l)"
            {copies}
            opens {self.name} mdadm --assemble {option} /dev/{self.name} {members}"""
