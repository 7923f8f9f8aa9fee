"""The layers that stacks are made of: how the guest builds each, and how it judges each later.

A layer names what it lies on by its path below /dev: `disk/a`, `md0`, `mapper/crypt`, `vg/root`.
To build is shell text that ends with the layer open. To judge is shell text that first prints
facts, by `fact LAYER KEY VALUE`, and then opens the layer read-only, by `opens LAYER COMMAND…`,
so that the layers above can be judged. `clean` are the facts of a layer that was closed as it
should be. A new kind of layer is one more class like these.
"""

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
    """One layer of a stack. `below` are the paths it lies on, `modules` what it needs loaded."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def below(self) -> tuple[str, ...]: ...
    @property
    def modules(self) -> tuple[str, ...]: ...
    @property
    def clean(self) -> Mapping[str, str]: ...
    def build(self) -> str: ...
    def judge(self) -> str: ...


def devices(below: tuple[str, ...]) -> str:
    """The device nodes of what a layer lies on, as words for the shell."""
    return " ".join(f"/dev/{each}" for each in below)


@dataclass(frozen=True)
class Raid:
    """An md array with metadata 1.2 on its members."""

    name: str
    below: tuple[str, ...]
    level: int = 1

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
        return f"""
            mdadm --examine {devices(self.below)} >/tmp/{self.name} 2>&1
            cat /tmp/{self.name}
            fact {self.name} clean-members "$(grep -c 'State : clean' /tmp/{self.name})"
            fact {self.name} event-counts "$(grep 'Events :' /tmp/{self.name} | sort -u | wc -l)"
            opens {self.name} mdadm --assemble --readonly /dev/{self.name} {devices(self.below)}"""


@dataclass(frozen=True)
class Linear:
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
class Multipath:
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


@dataclass(frozen=True)
class NetworkDisk:
    """The disk `disk` of the hardware, connected over the network as /dev/nbd0.

    Its process is marked as one that storage needs to the end, as nbd-client -systemd-mark does.
    """

    disk: str

    name: ClassVar[str] = "nbd0"
    title: ClassVar[str] = "NBD nbd0"
    below: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ("virtio_net", "nbd")
    clean: ClassVar[Mapping[str, str]] = NONE

    def build(self) -> str:
        return f"""
            ifconfig eth0 10.0.2.15 up
            port=$(sed 's/.*nbd=\\([0-9]*\\).*/\\1/' /proc/cmdline)
            chmod 755 /run/tray/trouble
            (exec -a @nbd /run/tray/trouble nbd /dev/nbd0 10.0.2.2 $port {self.disk})
            until [ "$(cat /sys/block/nbd0/size)" -gt 0 ]; do usleep 10000; done"""

    def judge(self) -> str:
        return f"ln -sf disk/{self.disk} /dev/nbd0"


def _key(name: str) -> bytes:
    """A volume key, 64 bytes. The host knows it; no guest ever gets it but as a key."""
    return hashlib.shake_256(f"volume key of {name}".encode()).digest(64)


@dataclass(frozen=True)
class Luks:
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
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    @property
    def keys(self) -> tuple[bytes, ...]:
        return (_key(self.name),)

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


def table(name: str) -> str:
    """Where the guest finds the table of a dm device."""
    return f"/run/tray/{name}.table"


def zeros(name: str, mib: int) -> str:
    """Shell text that fills a device with zeros: what has no tag yet cannot be read."""
    return f"dd if=/dev/zero of=/dev/mapper/{name} bs=1M count={mib} conv=fsync status=none"


@dataclass(frozen=True)
class Crypt:
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
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    @property
    def clean(self) -> Mapping[str, str]:
        return NONE if self.inactive else {"opens": "yes"}

    @property
    def keys(self) -> tuple[bytes, ...]:
        return tuple(_key(f"segment {number} of {self.name}") for number in range(self.segments))

    @property
    def mac_keys(self) -> tuple[bytes, ...]:
        return (_mac_key(self.name),) * self.authenticated

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
                key += _mac_key(self.name)
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


def _mac_key(name: str) -> bytes:
    """A key for HMAC-SHA256, 32 bytes, handed over as those of Crypt are."""
    return hashlib.shake_256(f"mac key of {name}".encode()).digest(32)


@dataclass(frozen=True)
class Integrity:
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
    def below(self) -> tuple[str, ...]:
        return (self.lower,)

    @property
    def mac_keys(self) -> tuple[bytes, ...]:
        return (_mac_key(self.name),) * self.keyed

    @property
    def table(self) -> bytes:
        """What the guest gives to dmsetup. A device that begins with zeros is formatted by it."""
        options = f"- J 2 block_size:4096 internal_hash:hmac(sha256):{_mac_key(self.name).hex()}"
        if not self.keyed:
            options = "32 J 1 block_size:4096"
        return f"0 {self.mib * 2048} integrity /dev/{self.lower} 0 {options}\n".encode()

    def build(self) -> str:
        make = f"dmsetup create {self.name} {table(self.name)}"
        return f"{make}\n{zeros(self.name, self.mib)}" if self.keyed else make

    def judge(self) -> str:
        """Open it as the next boot would: its own journal is replayed, here into memory."""
        lower, upper = f"/dev/{self.lower}", f"{self.name}-replayed"
        changes = f"/tmp/{self.name}.changes"
        return f"""
            modprobe -a loop dm-snapshot
            truncate -s 64M {changes}
            memory=$(losetup -f)
            losetup $memory {changes}
            echo "0 $(blockdev --getsz {lower}) snapshot {lower} $memory N 8" |
                dmsetup create {upper}
            sed -i 's# {lower} # /dev/mapper/{upper} #' {table(self.name)}
            opens {self.name} dmsetup create {self.name} {table(self.name)}"""


@dataclass(frozen=True)
class Lvm:
    """A volume group. `volumes` are the arguments for lvcreate, by the name of the volume."""

    name: str
    below: tuple[str, ...]
    volumes: tuple[tuple[str, str], ...]
    modules: tuple[str, ...] = ()

    clean: ClassVar[Mapping[str, str]] = {"opens": "yes", "missing": "0"}

    @property
    def title(self) -> str:
        return f"LVM {self.name}: {', '.join(name for name, _ in self.volumes)}"

    def build(self) -> str:
        physical = devices(self.below)
        lines = [f"pvcreate -qq -ff -y {physical}", f"vgcreate -qq {self.name} {physical}"]
        for name, arguments in self.volumes:
            lines.append(f"lvcreate -qq -y -Wn -Zn -n {name} {arguments} {self.name}")
        return "\n".join(lines)

    def judge(self) -> str:
        config = f'activation {{ read_only_volume_list = [ "{self.name}" ] }}'
        return f"""
            fact {self.name} missing "$(vgs --noheadings -o vg_missing_pv_count {self.name})"
            opens {self.name} vgchange -qq -ay --config '{config}' {self.name}"""


@dataclass(frozen=True)
class Modules:
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


@dataclass(frozen=True)
class Ext4:
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
class Swap:
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


@dataclass(frozen=True)
class Bind:
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
