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


@dataclass(frozen=True)
class LvmZoo(Common):
    """A volume group on three disks, with volumes of every kind that has something to lose: old
    snapshot and mirror, RAID1 and a RAID5 that is still syncing, cache and writecache, and a thin
    pool with `thin` volumes and a snapshot of each.

    In the second boot its disks have to be `Written`: there everything is activated as it would be,
    and LVM itself checks the metadata of pool and cache.
    """

    name: str
    below: tuple[str, ...]
    thin: int

    modules: ClassVar[tuple[str, ...]] = (
        "dm-cache-smq", "dm-mirror", "dm-raid", "dm-snapshot", "dm-thin-pool", "dm-writecache",
        "raid1", "raid456",
    )  # fmt: skip
    programs: ClassVar[tuple[str, ...]] = ("usr/sbin/cache_check", "usr/sbin/thin_check")

    @property
    def title(self) -> str:
        return f"LVM {self.name}: one of each"

    @property
    def clean(self) -> Mapping[str, str]:
        return {
            "volumes": str(self._count),
            "ill": "0",
            "raid-dirty": "00 00 00 00 00 00",
            "cache-clean": "1",
            "opens": "yes",
        }

    @property
    def _count(self) -> int:
        return 8 + 2 * self.thin

    def build(self) -> str:
        vg, (b, c, _) = self.name, tuple(f"/dev/{each}" for each in self.below)
        make, slow = "lvcreate -y -Wn -Zn", "--minrecoveryrate 1k --maxrecoveryrate 1k"
        volumes = [
            f"{make} -L 16M -n origin {vg} {b}",
            f"lvcreate -y -s -L 16M -n old {vg}/origin {c}",
            f"{make} --type mirror -m 1 --mirrorlog core --nosync -L 16M -n mirror {vg}",
            f"{make} --type raid1 -m 1 -R 512k --nosync -L 24M -n raid1 {vg}",
            f"{make} --type raid5 -i 2 -L 24M {slow} -n raid5 {vg}",
            f"{make} -L 24M -n cached {vg} {c}",
            f"{make} -L 16M -n fast {vg} {b}",
            f"lvconvert -y --type cache --cachevol fast --cachemode writeback {vg}/cached",
            f"{make} -L 24M -n wcached {vg} {c}",
            f"{make} -L 16M -n wfast {vg} {b}",
            f"lvchange -an {vg}/wfast",
            f"lvconvert -y --type writecache --cachevol wfast {vg}/wcached",
            f"lvcreate -y -Zn --type thin-pool -L 32M -n pool {vg} {b}",
        ]
        for number in range(self.thin):
            volumes.append(f"lvcreate -y -Wn -V 16M --thinpool pool -n thin{number} {vg}")
            volumes.append(f"lvcreate -y -kn -s -n snap{number} {vg}/thin{number}")
        lines = "\n".join(volumes)
        return f"""
            pvcreate -qq -ff -y {devices(self.below)}
            vgcreate -qq -s 1M {vg} {devices(self.below)}
            lvm <<'END' >/tmp/zoo 2>&1
{lines}
END
            [ $(lvs --noheadings {vg} | wc -l) = {self._count} ] || {{ cat /tmp/zoo; false; }}"""

    def judge(self) -> str:
        """Before anything is activated, look at the 48 bits of the RAID1's bitmap, behind 4 KiB and
        its own head of 256 bytes, and at the flags of the cache's metadata."""
        vg = self.name
        ill = 'lv_health_status!="" || lv_snapshot_invalid=1'
        config = 'devices { filter = [ "a|/dev/mapper/written-.*|", "r|.*|" ] }'
        return f"""
            echo '{config}' >>/etc/lvm/lvm.conf
            lvchange -qq -y -ay {vg}/raid1_rmeta_0
            fact {vg} raid-dirty "$(od -An -tx1 -j4352 -N6 /dev/mapper/{vg}-raid1_rmeta_0)"
            lvchange -qq -an {vg}/raid1_rmeta_0
            lvchange -qq -y -ay {vg}/fast_cvol
            fact {vg} cache-clean $(od -An -tu4 -j4 -N4 /dev/mapper/{vg}-fast_cvol)
            lvchange -qq -an {vg}/fast_cvol
            opens {vg} vgchange -qq -ay {vg}
            lvs -a -o+lv_health_status {vg}
            fact {vg} volumes $(lvs --noheadings -S lv_active=active {vg} | wc -l)
            fact {vg} ill $(lvs --noheadings -S '{ill}' {vg} | wc -l)"""
