"""LVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import Common, devices


@dataclass(frozen=True)
class Lvm(Common):
    """A volume group. `volumes` are the arguments for lvcreate, by the name of the volume.

    With `written` the second boot can write to it, which thin volumes want.
    """

    name: str
    below: tuple[str, ...]
    volumes: tuple[tuple[str, str], ...]
    modules: tuple[str, ...] = ()
    written: bool = False

    clean: ClassVar[Mapping[str, str]] = {"opens": "yes", "missing": "0"}

    @property
    def title(self) -> str:
        return f"LVM {self.name}: {', '.join(name for name, _ in self.volumes)}"

    def build(self) -> str:
        physical = devices(self.below)
        lines = [f"pvcreate -qq -ff -y {physical}", f"vgcreate -qq {self.name} {physical}"]
        for name, arguments in self.volumes:
            # What is thin refuses to be asked whether it is to be wiped.
            wipe = "" if "thin" in arguments else "-Wn -Zn"
            lines.append(f"lvcreate -qq -y {wipe} -n {name} {arguments} {self.name}")
        return "\n".join(lines)

    def judge(self) -> str:
        read_only = f'activation {{ read_only_volume_list = [ "{self.name}" ] }}'
        option = "" if self.written else f"--config '{read_only}'"
        return f"""
            fact {self.name} missing "$(vgs --noheadings -o vg_missing_pv_count {self.name})"
            opens {self.name} vgchange -qq -ay {option} {self.name}"""
