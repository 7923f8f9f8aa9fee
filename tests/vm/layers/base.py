"""What all kinds of layer share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

PASSPHRASE = "correct horse battery staple"
# Where the guest mounts what is to become its root, or, in the second boot, what was its root.
ROOT = "/sysroot"
NONE: Mapping[str, str] = {}


class Layer(Protocol):
    """One layer of a stack. `below` are the paths it lies on, `modules` what it needs loaded, and
    `programs` what it is built and judged with besides what every guest has: paths in the packages
    of the warehouse."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def below(self) -> tuple[str, ...]: ...
    @property
    def modules(self) -> tuple[str, ...]: ...
    @property
    def programs(self) -> tuple[str, ...]: ...
    @property
    def clean(self) -> Mapping[str, str]: ...
    def build(self) -> str: ...
    def judge(self) -> str: ...


class Common:
    """What a layer is unless it says otherwise."""

    programs: ClassVar[tuple[str, ...]] = ()


class OnOne(Common):
    """A layer that lies on one other, `lower`."""

    lower: str

    @property
    def below(self) -> tuple[str, ...]:
        """What it lies on."""
        return (self.lower,)


def devices(below: tuple[str, ...]) -> str:
    """The device nodes of what a layer lies on, as words for the shell."""
    return " ".join(f"/dev/{each}" for each in below)


def volume_key(name: str) -> bytes:
    """A volume key, 64 bytes. The host knows it; no guest ever gets it but as a key."""
    return hashlib.shake_256(f"volume key of {name}".encode()).digest(64)


def mac_key(name: str) -> bytes:
    """A key for HMAC-SHA256, 32 bytes, handed over as those of Crypt are."""
    return hashlib.shake_256(f"mac key of {name}".encode()).digest(32)


def table(name: str) -> str:
    """Where the guest finds the table of a dm device."""
    return f"/run/tray/{name}.table"


def changes_in_memory(lower: str, name: str, mib: int = 64) -> str:
    """Shell text that makes /dev/mapper/NAME: a device that cannot be written to, of which up to
    `mib` MiB of changes stay in memory."""
    return f"""
        modprobe -a loop dm-snapshot
        truncate -s {mib}M /tmp/{name}.changes
        memory=$(losetup -f)
        losetup $memory /tmp/{name}.changes
        echo "0 $(blockdev --getsz /dev/{lower}) snapshot /dev/{lower} $memory N 8" |
            dmsetup create {name}"""


def placed(path: str) -> str:
    """Where something is to be that the guest later has at `path`. What is below /run and /dev,
    which are moved into the new root, is there at all times."""
    return path if path.startswith(("/run/", "/dev/")) else f"{ROOT}{path}"


def writable(lower: str) -> str:
    """Shell text that makes a device, of `copy` of `lower`, of which all writes stay in memory:
    for what opens a device for writing though the disks of a second boot cannot be written to."""
    return changes_in_memory(lower, copy(lower))


def copy(lower: str) -> str:
    """The name of the dm device that `writable` makes."""
    return f"{lower.replace('/', '-')}-writable"


@dataclass(frozen=True)
class Modules(Common):
    """Modules of the kernel that must be there, since the guest's root has none."""

    modules: tuple[str, ...]

    title: ClassVar[str] = "modules"
    below: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def name(self) -> str:
        return f"modules:{','.join(self.modules)}"

    def build(self) -> str:
        return ""

    def judge(self) -> str:
        return ""
