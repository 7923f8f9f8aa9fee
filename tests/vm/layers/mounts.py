"""Mounts."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.hardware import MIB
from tests.vm.layers.base import NONE, Common, OnOne, copy, devices, placed, writable


@dataclass(frozen=True)
class Ext4(Common):
    """An ext4 file system, mounted at `at` (an absolute path in the guest's own root).

    Its journal is in the file system itself, or if given on the device `journal`.
    """

    lower: str
    at: str
    options: str = "defaults"
    journal: str = ""

    modules: ClassVar[tuple[str, ...]] = ()

    @property
    def clean(self) -> Mapping[str, str]:
        facts = {"state": "clean", "needs_recovery": "0", "fsck": "0", "opens": "yes"}
        return facts | ({"journal-start": "0"} if self.journal else {})

    @property
    def name(self) -> str:
        return f"ext4:{self.at}"

    @property
    def title(self) -> str:
        return f"ext4 {self.at}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower, *([self.journal] if self.journal else []))

    def build(self) -> str:
        external = f"-b 1024 -J device=/dev/{self.journal}" if self.journal else ""
        journal = f"mkfs.ext4 -q -b 1024 -O journal_dev /dev/{self.journal}"
        return f"""
            {journal if self.journal else ""}
            mkfs.ext4 -q {external} -E lazy_itable_init=0,nodiscard /dev/{self.lower}
            mkdir -p {placed(self.at)}
            mount -t ext4 -o {self.options} /dev/{self.lower} {placed(self.at)}"""

    def judge(self) -> str:
        journal, options = "", "ro"
        if self.journal:
            journal = f"-j /dev/mapper/{copy(self.journal)}"
            options = f"ro,noload,journal_path=/dev/mapper/{copy(self.journal)}"
        return f"""
            dumpe2fs -h /dev/{self.lower} >/tmp/header 2>&1
            grep -E '^Filesystem (features|state):' /tmp/header
            fact {self.name} state "$(sed -n 's/^Filesystem state: *//p' /tmp/header)"
            fact {self.name} needs_recovery "$(grep -c '^Filesystem feat.*needs_rec' /tmp/header)"
            {self._judge_journal() if self.journal else ""}
            e2fsck -fn {journal} /dev/{self.lower} && status=0 || status=$?
            fact {self.name} fsck "$status"
            mkdir -p {placed(self.at)}
            opens {self.name} \\
                mount -t ext4 -o {options} $(replayed /dev/{self.lower}) {placed(self.at)}"""

    def _judge_journal(self) -> str:
        """Where it begins: at 0, if nothing in it is to be replayed."""
        return f"""
            {writable(self.journal)}
            dumpe2fs -h /dev/{self.journal} >/tmp/journal 2>&1
            grep '^Journal' /tmp/journal
            fact {self.name} journal-start "$(sed -n 's/^Journal start: *//p' /tmp/journal)"
        """


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
        places = f"{placed(self.source)} {placed(self.at)}"
        return f"mkdir -p {places}\nmount -o bind {places}"

    def judge(self) -> str:
        return ""


@dataclass(frozen=True)
class Xfs(Common):
    """An xfs file system, mounted at `at`. With `log` and `realtime`, which come
    together, these have devices of their own."""

    lower: str
    at: str
    log: str = ""
    realtime: str = ""

    modules: ClassVar[tuple[str, ...]] = ("xfs",)
    programs: ClassVar[tuple[str, ...]] = (
        "sbin/mkfs.xfs",
        "sbin/xfs_repair",
        "usr/sbin/xfs_logprint",
    )
    clean: ClassVar[Mapping[str, str]] = {"repair": "0", "log": "<CLEAN>", "opens": "yes"}

    @property
    def name(self) -> str:
        return f"xfs:{self.at}"

    @property
    def title(self) -> str:
        return f"xfs {self.at}"

    @property
    def below(self) -> tuple[str, ...]:
        return tuple(each for each in (self.lower, self.log, self.realtime) if each)

    def build(self) -> str:
        beside = f"-l logdev=/dev/{self.log} -r rtdev=/dev/{self.realtime}" if self.log else ""
        options = f",logdev=/dev/{self.log},rtdev=/dev/{self.realtime}" if self.log else ""
        return f"""
            mkfs.xfs -q -f -K {beside} /dev/{self.lower}
            mkdir -p {placed(self.at)}
            mount -t xfs -o rw{options} /dev/{self.lower} {placed(self.at)}"""

    def judge(self) -> str:
        """Look for damage, and for a log that would have to be replayed."""
        log, realtime, beside, options = "", "", "", "ro,norecovery"
        if self.log:
            places = [f"/dev/mapper/{copy(each)}" for each in (self.log, self.realtime)]
            log, realtime = f"-l {places[0]}", f"-r {places[1]}"
            options += ",logdev={},rtdev={}".format(*places)
            beside = f"{writable(self.log)}{writable(self.realtime)}"
        return f"""
            {beside}
            xfs_repair -n {log} {realtime} /dev/{self.lower} && status=0 || status=$?
            fact {self.name} repair "$status"
            /usr/sbin/xfs_logprint -t {log} /dev/{self.lower} >/tmp/log 2>&1
            head -20 /tmp/log
            fact {self.name} log "$(sed -n 's/.* state: *//p' /tmp/log)"
            mkdir -p {placed(self.at)}
            opens {self.name} mount -t xfs -o {options} /dev/{self.lower} {placed(self.at)}"""


@dataclass(frozen=True)
class Vfat(OnOne):
    """A vfat file system, FAT32 of `mib` MiB, on what holds zeros, mounted at `at`; `shown` is a
    file on it whose content is told later."""

    lower: str
    mib: int
    at: str
    shown: str

    modules: ClassVar[tuple[str, ...]] = ("vfat", "nls_cp437", "nls_ascii")
    clean: ClassVar[Mapping[str, str]] = {"dirty": "0", "opens": "yes"}

    @property
    def name(self) -> str:
        return f"vfat:{self.at}"

    @property
    def title(self) -> str:
        return f"vfat {self.at}"

    def _pieces(self) -> Mapping[int, bytes]:
        """What is not zero on an empty one, by sectors: <linux/msdos_fs.h>."""
        sectors, cluster, reserved = self.mib * MIB // 512, 8, 32
        long = (sectors // cluster + 2) * 4 // 512 + 1
        front = struct.pack(
            "<HBHBHHBHHHII", 512, cluster, reserved, 2, 0, 0, 0xF8, 0, 32, 2, 0, sectors
        )
        front += struct.pack("<IHHIHH12xBBBI", long, 0, 0, 2, 1, 0, 0x80, 0, 0x29, 0x12AB34CD)
        boot = b"\xeb\x58\x90mkfs.fat" + front + b"ESP        FAT32   "
        info = b"RRaA" + bytes(480) + b"rrAa" + b"\xff" * 8
        end = b"\x55\xaa"
        table = struct.pack("<III", 0x0FFFFFF8, 0x0FFFFFFF, 0x0FFFFFFF)
        return {
            0: boot.ljust(510, b"\0") + end + info.ljust(510, b"\0") + end,
            reserved: table,
            reserved + long: table,
        }

    def build(self) -> str:
        writing = "\n".join(
            f"echo {base64.b64encode(piece).decode()} | base64 -d |"
            f" dd of=/dev/{self.lower} seek={at} conv=fsync status=none"
            for at, piece in self._pieces().items()
        )
        return f"""
            modprobe -a {" ".join(self.modules)}
            {writing}
            mkdir -p {placed(self.at)}
            mount -t vfat /dev/{self.lower} {placed(self.at)}"""

    def judge(self) -> str:
        """Look for FAT_STATE_DIRTY in `state` of struct fat_boot_sector, <linux/msdos_fs.h>."""
        return f"""
            dd if=/dev/{self.lower} bs=1 skip=65 count=1 status=none | od -An -tu1 >/tmp/state
            fact {self.name} dirty "$(($(cat /tmp/state) & 1))"
            mkdir -p {placed(self.at)}
            opens {self.name} mount -t vfat -o ro /dev/{self.lower} {placed(self.at)}
            echo "shown $(base64 {shlex.quote(placed(self.at) + self.shown)} | tr -d '\\n')"
            echo "beside: $(find {placed(self.at)} -type f | wc -l)\""""


@dataclass(frozen=True)
class Btrfs(Common):
    """A btrfs over several devices, everything on two of them, with a subvolume at each of `at`."""

    below: tuple[str, ...]
    at: tuple[str, ...]

    modules: ClassVar[tuple[str, ...]] = ("btrfs",)
    programs: ClassVar[tuple[str, ...]] = ("bin/btrfs", "sbin/mkfs.btrfs")

    @property
    def name(self) -> str:
        return f"btrfs:{self.at[0]}"

    @property
    def title(self) -> str:
        return f"btrfs {', '.join(self.at)}"

    @property
    def clean(self) -> Mapping[str, str]:
        return {"check": "0", "log-root": "0", "generations": "1", "opens": "yes"}

    @property
    def _options(self) -> str:
        return ",".join(f"device=/dev/{each}" for each in self.below)

    def _mount(self, options: str) -> str:
        return " && ".join(
            f"mkdir -p {placed(at)} && mount -t btrfs -o {self._options},{options},subvol=/{number}"
            f" /dev/{self.below[0]} {placed(at)}"
            for number, at in enumerate(self.at)
        )

    def build(self) -> str:
        volumes = " ".join(f"/run/btrfs/{number}" for number in range(len(self.at)))
        return f"""
            mkfs.btrfs -q -f -K -d raid1 -m raid1 {devices(self.below)}
            mkdir -p /run/btrfs
            mount -t btrfs -o {self._options} /dev/{self.below[0]} /run/btrfs
            for each in {volumes}; do btrfs -q subvolume create $each; done
            umount /run/btrfs
            {self._mount("rw")}"""

    def judge(self) -> str:
        """Look for damage, for a log that would have to be replayed, and whether all devices have
        seen the last transaction."""
        return f"""
            for each in {devices(self.below)}; do btrfs device scan $each; done
            btrfs check --readonly /dev/{self.below[0]} && status=0 || status=$?
            fact {self.name} check "$status"
            btrfs inspect-internal dump-super {devices(self.below)} >/tmp/super 2>&1
            awk '$1 == "log_root" {{ print $2 }}' /tmp/super | sort -u >/tmp/log-root
            fact {self.name} log-root "$(cat /tmp/log-root)"
            fact {self.name} generations "$(grep '^generation' /tmp/super | sort -u | wc -l)"
            opens {self.name} eval '{self._mount("ro")}'"""


NUMBERS = 20_000


def image(type: str, file: str) -> str:
    """Shell text that makes a read-only file system, squashfs or erofs, in a file."""
    make = {
        "squashfs": f"/usr/bin/mksquashfs /run/image {file} -quiet -no-progress",
        "erofs": f"/usr/bin/mkfs.erofs --quiet {file} /run/image",
    }
    return f"""
        mkdir -p /run/image {file.rpartition("/")[0]}
        seq {NUMBERS} >/run/image/numbers
        {make[type]}
        rm -r /run/image"""


@dataclass(frozen=True)
class Image(Common):
    """A read-only file system, squashfs or erofs, in the file `file`, mounted at `at`. On a device,
    it is there already."""

    type: str
    file: str
    at: str

    @property
    def modules(self) -> tuple[str, ...]:
        return ("loop", self.type)

    # mksquashfs ends its threads by a library that glibc loads only then.
    programs: ClassVar[tuple[str, ...]] = (
        "usr/bin/mkfs.erofs",
        "usr/bin/mksquashfs",
        "lib/x86_64-linux-gnu/libgcc_s.so.1",
    )
    below: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        return f"{self.type}:{self.at}"

    @property
    def title(self) -> str:
        return f"{self.type} {self.at} in {self.file}"

    @property
    def clean(self) -> Mapping[str, str]:
        numbers = "".join(f"{number}\n" for number in range(1, NUMBERS + 1))
        return {"opens": "yes", "content": hashlib.sha256(numbers.encode()).hexdigest()}

    def build(self) -> str:
        make = "" if self.file.startswith("/dev/") else image(self.type, placed(self.file))
        return f"""
            {make}
            mkdir -p {placed(self.at)}
            {self._mount}"""

    @property
    def _mount(self) -> str:
        return f"mount -t {self.type} -o loop,ro {placed(self.file)} {placed(self.at)}"

    def judge(self) -> str:
        return f"""
            mkdir -p {placed(self.at)}
            opens {self.name} {self._mount}
            fact {self.name} content "$(sha256sum {placed(self.at)}/numbers | cut -d ' ' -f 1)"
        """


@dataclass(frozen=True)
class Overlay(Common):
    """An overlay mounted at `at`: `lower` are folders of the guest's, the topmost first; what is
    written goes to the folder `upper`/upper, beside a `upper`/work."""

    lower: tuple[str, ...]
    upper: str
    at: str

    modules: ClassVar[tuple[str, ...]] = ("overlay",)
    below: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def name(self) -> str:
        return f"overlay:{self.at}"

    @property
    def title(self) -> str:
        return f"overlay {self.at}"

    def _lower(self, *more: str) -> str:
        """The option, in which what means something to it has a backslash before it."""
        places = [placed(each) for each in (*more, *self.lower)]
        escaped = (re.sub(r"[:,\\\\]", r"\\\g<0>", place) for place in places)
        return f"lowerdir={':'.join(escaped)}"

    def build(self) -> str:
        upper, work = f"{placed(self.upper)}/upper", f"{placed(self.upper)}/work"
        folders = shlex.join([upper, work, *(placed(each) for each in (*self.lower, self.at))])
        options = shlex.quote(f"{self._lower()},upperdir={upper},workdir={work}")
        return f"mkdir -p {folders}\nmount -t overlay -o {options} overlay {placed(self.at)}"

    def judge(self) -> str:
        """Nothing can be written any more: so what was the upper one is the topmost lower one."""
        options = shlex.quote(self._lower(f"{self.upper}/upper"))
        return f"""
            mkdir -p {placed(self.at)}
            opens {self.name} mount -t overlay -o {options} overlay {placed(self.at)}"""


@dataclass(frozen=True)
class Nfs(Common):
    """The folder `exported`, a mount point, served by the guest itself and mounted at `at`.

    There is no daemon beside the kernel's: what it would ask for is told beforehand.
    """

    exported: str
    at: str

    modules: ClassVar[tuple[str, ...]] = ("nfsv4", "nfsd")
    below: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    @property
    def name(self) -> str:
        return f"nfs:{self.at}"

    @property
    def title(self) -> str:
        return f"NFS {self.at} of {self.exported}"

    def build(self) -> str:
        """Flags of an export, <linux/nfsd/export.h>: any port, no check of subtrees, a number."""
        flags, never, nobody = 0x0002 | 0x0400 | 0x2000, 2**31 - 1, 65534
        options = "vers=4.2,addr=127.0.0.1,clientaddr=127.0.0.1"
        export = f"local {placed(self.exported)} {never} {flags} {nobody} {nobody} 0"
        handle = rf"local 1 \x00000000 {never} {placed(self.exported)}"
        return f"""
            ifconfig lo 127.0.0.1 up
            mkdir -p /var/lib/nfs/v4recovery
            mount -t nfsd nfsd /proc/fs/nfsd
            echo 'nfsd 127.0.0.1 {never} local' >/proc/net/rpc/auth.unix.ip/channel
            echo '{export}' >/proc/net/rpc/nfsd.export/channel
            printf '%s\\n' '{handle}' >/proc/net/rpc/nfsd.fh/channel
            echo '-2 -3 +4 +4.1 +4.2' >/proc/fs/nfsd/versions
            echo 'tcp 2049' >/proc/fs/nfsd/portlist
            echo 2 >/proc/fs/nfsd/threads
            echo Y >/proc/fs/nfsd/v4_end_grace
            mkdir -p {placed(self.at)}
            mount -t nfs4 -o {options} 127.0.0.1:/ {placed(self.at)}
            """

    def judge(self) -> str:
        places = f"{placed(self.exported)} {placed(self.at)}"
        return f"mount -o bind {places}"
