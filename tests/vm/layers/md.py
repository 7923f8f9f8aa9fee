"""md arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import NONE, ROOT, Common, OnOne, copy, devices, writable

MODULES = {"4": "raid456", "5": "raid456", "6": "raid456"}
ASSUME_CLEAN = "--assume-clean --bitmap=none"
STATE = "/sys/block/{}/md"


def module(level: int | str) -> str:
    """The module of the kernel for a level."""
    named = f"raid{level}" if isinstance(level, int) else level
    return MODULES.get(str(level), named)


@dataclass(frozen=True)
class Raid(Common):
    """An md array with metadata 1.2 on its members.

    `missing` of its members were never there. `options` are mdadm's for --create, `journal` is the
    device that its journal lies on, and `bitmap` a file, in the guest's own root. `after` is shell
    text to be run in its directory in /sys when it is built. With `written` the second boot can
    write to what lies on it, though not to the members.
    """

    name: str
    below: tuple[str, ...]
    level: int | str = 1
    missing: int = 0
    options: str = ASSUME_CLEAN
    journal: str = ""
    bitmap: str = ""
    after: str = ""
    written: bool = False

    @property
    def title(self) -> str:
        return f"RAID{self.level} {self.name}"

    @property
    def modules(self) -> tuple[str, ...]:
        return (module(self.level),)

    @property
    def members(self) -> tuple[str, ...]:
        """All that carries a superblock of it."""
        return self.below + ((self.journal,) if self.journal else ())

    @property
    def clean(self) -> Mapping[str, str]:
        facts = {"clean-members": str(len(self.members)), "event-counts": "1", "opens": "yes"}
        if self.bitmap or "--bitmap=internal" in self.options:
            facts |= {"bitmaps": "1" if self.bitmap else str(len(self.below)), "dirty": "0"}
        return facts

    def build(self) -> str:
        count = len(self.below) + self.missing
        options = self.options
        if self.journal:
            options += f" --write-journal=/dev/{self.journal}"
        if self.bitmap:
            options += f" --bitmap={ROOT}{self.bitmap} --force"
        lines = [
            f"mdadm --create /dev/{self.name} --quiet --run --level={self.level} --metadata=1.2"
            f" {options} --raid-devices={count} {devices(self.below)}{' missing' * self.missing}",
        ]
        if self.after:
            lines.append(f"cd {STATE.format(self.name)}; {self.after}")
        return "\n".join(lines)

    def judge(self) -> str:
        """Ask each member's superblock for its state, and whether all count the same events."""
        bitmaps = f"{ROOT}{self.bitmap}" if self.bitmap else devices(self.below)
        lines = [
            f"mdadm --examine {devices(self.members)} >/tmp/{self.name} 2>&1",
            f"cat /tmp/{self.name}",
            f"fact {self.name} clean-members \"$(grep -c 'State : clean' /tmp/{self.name})\"",
            f"fact {self.name} event-counts"
            f" \"$(grep 'Events :' /tmp/{self.name} | sort -u | wc -l)\"",
        ]
        if "dirty" in self.clean:
            dirty = "s/.*Bitmap.* \\([0-9]*\\) dirty.*/\\1/p"
            lines += [
                f"for each in {bitmaps}; do mdadm --examine-bitmap $each; done >/tmp/bitmaps 2>&1",
                "cat /tmp/bitmaps",
                f"fact {self.name} bitmaps \"$(grep -c 'Bitmap :' /tmp/bitmaps)\"",
                f"fact {self.name} dirty \"$(sed -n '{dirty}' /tmp/bitmaps | sort -u)\"",
            ]
        members, option = devices(self.members), "--readonly"
        if self.written:
            members = " ".join(f"/dev/mapper/{copy(each)}" for each in self.members)
            lines, option = [*lines, *map(writable, self.members)], ""
        option += " --run" if self.missing else ""
        lines.append(f"opens {self.name} mdadm --assemble {option} /dev/{self.name} {members}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Resyncing(Raid):
    """An array whose resync has only begun, and goes slowly. It is not clean before that has
    ended, but has to know how far it got: one that was not stopped begins anew."""

    options: str = "--bitmap=none"
    after: str = "echo 100 >sync_speed_min; echo 500 >sync_speed_max"

    @property
    def clean(self) -> Mapping[str, str]:
        return {"clean-members": "0", "event-counts": "1", "checkpoint": "yes"}

    def judge(self) -> str:
        return f"""
            {super().judge()}
            start=$(cat {STATE.format(self.name)}/resync_start)
            fact {self.name} checkpoint "$([ $start -gt 0 ] && echo yes || echo $start)" """


@dataclass(frozen=True)
class Plain(Common):
    """An array without any metadata: a mirror that somebody has to put together each time."""

    name: str
    below: tuple[str, ...]

    modules: ClassVar[tuple[str, ...]] = ("raid1",)
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"RAID1 {self.name} without metadata"

    def build(self) -> str:
        return (
            f"mdadm --build /dev/{self.name} --quiet --level=1 --assume-clean"
            f" --raid-devices={len(self.below)} {devices(self.below)}"
        )

    def judge(self) -> str:
        return f"opens {self.name} {self.build()}"


@dataclass(frozen=True)
class Inactive(Common):
    """An array that waits for more of its members, and does not run."""

    name: str
    below: tuple[str, ...]

    modules: ClassVar[tuple[str, ...]] = ("raid456",)
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def title(self) -> str:
        return f"inactive {self.name}"

    def build(self) -> str:
        array = Raid(self.name, self.below, 5)
        return f"""
            {array.build()}
            mdadm --stop --quiet /dev/{self.name}
            mdadm --incremental --quiet /dev/{self.below[0]}
            cat /sys/block/md*/md/array_state | grep -q inactive"""

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class Partitioned(OnOne):
    """One partition on a device that can have them: all of it but the first MiB."""

    lower: str

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def name(self) -> str:
        return f"{self.lower}p1"

    @property
    def title(self) -> str:
        return f"partition {self.name}"

    def build(self) -> str:
        """Write a table of the oldest kind: one entry at byte 446, and the two last bytes."""
        device = f"/dev/{self.lower}"
        return f"""
            size=$(($(blockdev --getsz {device}) - 2048))
            {{
                head -c 446 /dev/zero
                printf '\\0\\0\\0\\0\\203\\0\\0\\0\\0\\10\\0\\0'
                for shift in 0 8 16 24; do
                    printf "\\\\$(printf %o $((size >> shift & 255)))"
                done
                head -c 48 /dev/zero
                printf '\\125\\252'
            }} | dd of={device} conv=notrunc,fsync status=none
            blockdev --rereadpt {device}
            [ -b /dev/{self.name} ]"""

    def judge(self) -> str:
        return f"opens {self.name} [ -b /dev/{self.name} ]"


@dataclass(frozen=True)
class Container(Common):
    """A mirror in a container, with metadata that only a process keeps: `ddf` or `imsm`."""

    name: str
    below: tuple[str, ...]
    container: str
    metadata: str

    modules: ClassVar[tuple[str, ...]] = ("raid1",)
    programs: ClassVar[tuple[str, ...]] = ("sbin/mdmon",)

    @property
    def title(self) -> str:
        return f"RAID1 {self.name} with {self.metadata} metadata"

    @property
    def clean(self) -> Mapping[str, str]:
        return {"clean-members": str(len(self.below)), "halves": "equal", "opens": "yes"}

    def build(self) -> str:
        """These disks have no serial number that Intel's firmware would know them by.

        The array is read-only until the process has seen it.
        """
        members = f"--raid-devices={len(self.below)}"
        return f"""
            export IMSM_NO_PLATFORM=1 IMSM_DEVNAME_AS_SERIAL=1
            mdadm --create /dev/{self.container} --quiet --run --metadata={self.metadata} \
                {members} {devices(self.below)}
            mdadm --create /dev/{self.name} --quiet --run --level=1 --assume-clean \
                {members} /dev/{self.container}
            until [ -s /run/mdadm/{self.container}.pid ] &&
                ! grep -qx readonly /sys/block/{self.name}/md/array_state; do usleep 10000; done"""

    def judge(self) -> str:
        """Ask each member whether the array was clean. Its data begins where the member does."""
        first, *others = (f"/dev/{each}" for each in self.below)
        state = {"ddf": "state.*: Optimal, Consistent", "imsm": "Dirty State : clean"}[
            self.metadata
        ]
        return f"""
            export IMSM_NO_PLATFORM=1 IMSM_DEVNAME_AS_SERIAL=1
            mdadm --examine {devices(self.below)} >/tmp/{self.name} 2>&1
            cat /tmp/{self.name}
            fact {self.name} clean-members "$(grep -c '{state}' /tmp/{self.name})"
            cmp -n {32 << 20} {first} {others[0]} && halves=equal || halves=differ
            fact {self.name} halves $halves
            echo "0 $(blockdev --getsz {first}) linear {first} 0" |
                dmsetup create --readonly {self.name}
            opens {self.name} ln -sf mapper/{self.name} /dev/{self.name}"""


@dataclass(frozen=True)
class MonitorInRoot(Common):
    """The program of the process that keeps metadata, as a file of the guest's root."""

    name: ClassVar[str] = "mdmon"
    title: ClassVar[str] = "mdmon"
    below: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ()
    programs: ClassVar[tuple[str, ...]] = ("sbin/mdmon",)
    clean: ClassVar[Mapping[str, str]] = NONE

    def build(self) -> str:
        return f"cp /sbin/mdmon {ROOT}/mdmon"

    def judge(self) -> str:
        return ""
