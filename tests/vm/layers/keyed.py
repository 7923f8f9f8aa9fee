"""Layers with a key: LUKS, dm-crypt, dm-integrity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import (
    NONE,
    PASSPHRASE,
    OnOne,
    changes_in_memory,
    mac_key,
    table,
    volume_key,
)


def zeros(name: str, mib: int) -> str:
    """Shell text that fills a device with zeros: what has no tag yet cannot be read."""
    return f"dd if=/dev/zero of=/dev/mapper/{name} bs=1M count={mib} conv=fsync status=none"


@dataclass(frozen=True)
class Luks(OnOne):
    """A LUKS device, aes-xts-plain64. The host has made its header; the guest copies it."""

    name: str
    lower: str
    version: int = 2
    # Of cryptsetup open.
    options: str = ""

    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"LUKS{self.version} {self.name}"

    @property
    def keys(self) -> tuple[bytes, ...]:
        return (volume_key(self.name),)

    def build(self) -> str:
        header = f"dd if=/run/tray/{self.name}.header of=/dev/{self.lower} bs=64k conv=fsync"
        return f"{header} status=none\n{self.opening(self.options)}"

    def judge(self) -> str:
        return f"opens {self.name} eval '{self.opening('--readonly')}'"

    @property
    def device(self) -> str:
        """What cryptsetup is given to open."""
        return f"/dev/{self.lower}"

    def opening(self, option: str) -> str:
        """Shell text that opens it."""
        return (
            f'printf %s "{PASSPHRASE}" |'
            f" cryptsetup open {option} --key-file - {self.device} {self.name}"
        )


@dataclass(frozen=True)
class Crypt(OnOne):
    """A dm-crypt device without a header, its `mib` MiB in segments, each with a key of its own.

    The guest reads the keys as text, which no search for keys finds: only dm-crypt makes keys of
    it. To search for that text would say nothing: what has brought it here is full of it.

    With `inactive` it is only loaded, into the device `name` that is already there. With
    `authenticated` it lies on an `Integrity` without a key, as `cryptsetup luksFormat --integrity
    hmac-sha256` would have it, and has another key, for the tags that are kept there.
    """

    name: str
    lower: str
    mib: int
    segments: int = 2
    inactive: bool = False
    authenticated: bool = False

    @property
    def modules(self) -> tuple[str, ...]:
        return ("authenc", "sha256-ssse3") if self.authenticated else ()

    @property
    def title(self) -> str:
        kind = "authenticated dm-crypt" if self.authenticated else "dm-crypt"
        return f"{kind} {self.name}, {'inactive' if self.inactive else f'{self.segments} keys'}"

    @property
    def clean(self) -> Mapping[str, str]:
        return NONE if self.inactive else {"opens": "yes"}

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(
            volume_key(f"segment {number} of {self.name}") for number in range(self.segments)
        )

    @property
    def mac_keys(self) -> tuple[bytes, ...]:
        return (mac_key(self.name),) * self.authenticated

    @property
    def table(self) -> bytes:
        """What the guest gives to dmsetup."""
        length = self.mib * 2048 // self.segments
        lines = []
        for number, key in enumerate(self.keys):
            at = number * length
            cipher, options = "aes-xts-plain64", ""
            if self.authenticated:
                cipher = "capi:authenc(hmac(sha256),xts(aes))-plain64"
                options = " 2 integrity:32:aead sector_size:4096"
                key += mac_key(self.name)
            words = f"crypt {cipher} {key.hex()} {at} /dev/{self.lower} {at}{options}"
            lines.append(f"{at} {length} {words}\n")
        return "".join(lines).encode()

    def build(self) -> str:
        make = f"dmsetup {'load' if self.inactive else 'create'} {self.name} {table(self.name)}"
        return f"{make}\n{zeros(self.name, self.mib)}" if self.authenticated else make

    def judge(self) -> str:
        if self.inactive:
            return ""
        return f"opens {self.name} dmsetup create --readonly {self.name} {table(self.name)}"


@dataclass(frozen=True)
class Integrity(OnOne):
    """A dm-integrity device of `mib` MiB. It keeps sums made with a key, HMAC-SHA256, or if it is
    not `keyed` tags for an authenticated `Crypt` on it.

    The guest reads the key as text, as that of Crypt. The kernel itself keeps that text too, as
    long as the table lives; so there is no way to tell apart who has left it.
    """

    name: str
    lower: str
    mib: int
    keyed: bool = True

    modules: ClassVar[tuple[str, ...]] = ("dm-integrity", "sha256-ssse3")
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"{'keyed ' if self.keyed else ''}dm-integrity {self.name}"

    @property
    def mac_keys(self) -> tuple[bytes, ...]:
        return (mac_key(self.name),) * self.keyed

    @property
    def table(self) -> bytes:
        """What the guest gives to dmsetup. A device that begins with zeros is formatted by it."""
        options = f"- J 2 block_size:4096 internal_hash:hmac(sha256):{mac_key(self.name).hex()}"
        if not self.keyed:
            options = "32 J 1 block_size:4096"
        return f"0 {self.mib * 2048} integrity /dev/{self.lower} 0 {options}\n".encode()

    def build(self) -> str:
        make = f"dmsetup create {self.name} {table(self.name)}"
        return f"{make}\n{zeros(self.name, self.mib)}" if self.keyed else make

    def judge(self) -> str:
        """Open it as the next boot would: its own journal is replayed, here into memory."""
        upper = f"{self.name}-replayed"
        return f"""
            {changes_in_memory(self.lower, upper)}
            sed -i 's# /dev/{self.lower} # /dev/mapper/{upper} #' {table(self.name)}
            opens {self.name} dmsetup create {self.name} {table(self.name)}"""
