"""Copies of keys beside the devices that use them, each with a control that finds them."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from tests.vm.cache import digest, once
from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.hardware import Hardware
from tests.vm.layers import ROOT, Ext4, Luks
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, ORACLE, REMOUNT, RETURN, Row
from tests.vm.stacks import MAIN, ONE, Stack

# Without it, memory that was freed would be overwritten too: here it must not be needed. On the
# return path there is no place for the option: systemd-shutdown refuses what it does not know.
NO_SCRUB = DIRECT + " --scrub=never"


def secret(name: str) -> bytes:
    """64 bytes that the host knows, and the guest only as a key."""
    return hashlib.shake_256(f"secret {name}".encode()).digest(64)


def handed(*secrets: bytes) -> tuple[Path, ...]:
    """What the guest is handed of them: files secret-N, with the top bit of each byte turned."""

    def build(folder: Path) -> None:
        for number, each in enumerate(secrets):
            (folder / f"secret-{number}").write_bytes(bytes(byte ^ 0x80 for byte in each))

    folder = once(f"secrets-{digest(secrets)}", build)
    return tuple(folder / f"secret-{number}" for number in range(len(secrets)))


# -- keyrings ----------------------------------------------------------------------------------

USES = ("root", "user", "session", "persistent", "expired", "logon")
CACHED = tuple(secret(use) for use in USES)
CACHE = """
/run/secret key 0 user cryptsetup /run/secret-0
/run/secret key 1000 user cryptsetup /run/secret-1
/run/secret key 1001 user-session login /run/secret-2
/run/secret key 1002 persistent ticket /run/secret-3
/run/secret key 1003 user stale /run/secret-4 1
/run/secret key 1000 user logon:x /run/secret-5
sleep 1.5"""
KEYRINGS = Row(
    "passphrases in keyrings",
    MAIN,
    NO_SCRUB,
    before=(CACHE,),
    programs=handed(*CACHED),
    tools=("secret",),
    keys=CACHED,
)


def test_a_keyring_outlives_a_clean_close(happen: Happen) -> None:
    row = replace(KEYRINGS, name=f"control: {KEYRINGS.name}", path=DIRECT, to=ORACLE)
    outcome = happen(row)
    assert outcome.copies.keys >= len(CACHED)


# -- key files ---------------------------------------------------------------------------------

FILES = """
mkdir -p /run/cryptsetup-keys.d/more
/run/secret file /run/secret-0 /run/cryptsetup-keys.d/home.key
/run/secret file /run/secret-1 /run/cryptsetup-keys.d/more/srv.key"""
IN_FILES = (secret("home.key"), secret("srv.key"))
KEY_FILES = Row(
    "key files in tmpfs",
    MAIN,
    NO_SCRUB,
    before=(FILES,),
    programs=handed(*IN_FILES),
    tools=("secret",),
    keys=IN_FILES,
)


def test_a_key_file_outlives_the_machine(happen: Happen) -> None:
    row = replace(KEY_FILES, name=f"control: {KEY_FILES.name}", path=REMOUNT, to=ORACLE)
    assert happen(row).copies.keys >= len(IN_FILES)


@pytest.mark.parametrize(
    "row",
    [
        each
        for row in (KEYRINGS, KEY_FILES)
        for each in (row, *seldom(replace(row, name=f"{row.name}, return", path=RETURN)))
    ],
    ids=lambda row: row.slug,
)
def test_no_keyring_and_no_key_file_keeps_a_key(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"


# -- loop devices ------------------------------------------------------------------------------


@dataclass(frozen=True)
class LuksInFile(Luks):
    """LUKS in a file: `lower` is its path. With `loop`, by a loop device of that name that was set
    up before; else cryptsetup sets one up, and it lasts as long as the mapping."""

    loop: str = ""

    modules: ClassVar[tuple[str, ...]] = ("loop",)

    @property
    def below(self) -> tuple[str, ...]:
        return ()

    def build(self) -> str:
        file = f"{ROOT}{self.lower}"
        return f"""
            cat /run/tray/{self.name}.header >{file}
            truncate -s 48M {file}
            {self.attach("")}
            {self.opening("")}"""

    def judge(self) -> str:
        return f"{self.attach('-r')}\n{super().judge()}"

    def attach(self, option: str) -> str:
        return f"losetup {option} /dev/{self.loop} {ROOT}{self.lower}" if self.loop else ""

    @property
    def device(self) -> str:
        return f"/dev/{self.loop}" if self.loop else f"{ROOT}{self.lower}"


def in_file(name: str, loop: str) -> Stack:
    """ext4 on LUKS on a file of the root file system."""
    inner = (LuksInFile("inner", "/inner.img", loop=loop), Ext4("mapper/inner", "/inner"))
    return Stack(
        name,
        Hardware(ONE),
        (Ext4("disk/a", "/"), *inner),
        files=(File("/data/old", 300_000), File("/inner/secret", 1 << 20, secret=True)),
    )


INNER = (File("/data/new", 100_000), File("/inner/new", 1 << 20, secret=True))
LOSETUP = in_file("LUKS in a file, losetup", "loop0")
CRYPTSETUP = in_file("LUKS in a file, cryptsetup", "")


@pytest.mark.parametrize(
    "row",
    [
        Row("LUKS in a file, losetup", LOSETUP, NO_SCRUB, files=INNER),
        *seldom(Row("LUKS in a file, losetup, return", LOSETUP, RETURN, files=INNER)),
        Row("LUKS in a file, cryptsetup", CRYPTSETUP, NO_SCRUB, files=INNER),
        *seldom(Row("LUKS in a file, cryptsetup, return", CRYPTSETUP, RETURN, files=INNER)),
        Row(
            "LUKS in a deleted file",
            LOSETUP,
            NO_SCRUB,
            files=INNER,
            before=("ln /inner.img /kept; rm /inner.img; ln /kept /inner.img",),
        ),
    ],
    ids=lambda row: row.slug,
)
def test_loop_devices_are_closed(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"


# -- fscrypt -----------------------------------------------------------------------------------

UUID = "11111111-2222-4333-8444-555555555555"


@dataclass(frozen=True)
class EncryptableExt4(Ext4):
    """ext4 that can have encrypted directories, with inode numbers that never change."""

    def build(self) -> str:
        able = f"-O encrypt,stable_inodes -U {UUID}"
        # The root that is switched to has no modules.
        load = "modprobe -a sha512_generic cts xts"
        return load + super().build().replace("mkfs.ext4 -q", f"mkfs.ext4 -q {able}")


def derived(master: bytes) -> bytes:
    """The key that the kernel derives for the contents of all files under one key.

    fscrypt_setup_v2_file_key() with FSCRYPT_POLICY_FLAG_IV_INO_LBLK_64: HKDF-SHA512, context 4,
    mode 1 (AES-256-XTS) and the UUID. Documentation/filesystems/fscrypt.rst, "Key hierarchy".
    """
    extracted = hmac.digest(bytes(64), master, "sha512")
    info = b"fscrypt\0" + bytes((4, 1)) + bytes.fromhex(UUID.replace("-", ""))
    return hmac.digest(extracted, info + b"\x01", "sha512")


VAULT = (secret("vault of version 1"), secret("vault of version 2"))
VAULTS = """
/run/secret directory /run/secret-0 /data/vault1 1
/run/secret directory /run/secret-1 /data/vault2 2
echo hello >/data/vault1/file; echo hello >/data/vault2/file
sync
(cd /data; exec -a @storage /run/secret stay) &"""
ENCRYPTED = Row(
    "encrypted directories on a busy root",
    Stack("encrypted directories", Hardware(ONE), (EncryptableExt4("disk/a", "/"),)),
    NO_SCRUB,
    before=(VAULTS,),
    programs=handed(*VAULT),
    tools=("secret",),
    keys=(*VAULT, derived(VAULT[1])),
)


def test_no_key_of_a_directory_stays(happen: Happen) -> None:
    outcome = happen(ENCRYPTED)
    assert not outcome.problems, f"see {ENCRYPTED.folder}"
    log = (ENCRYPTED.folder / "console.log").read_text()
    assert "removed from ext4 /: the key of /data/vault1" in log
    assert "removed from ext4 /: the key of /data/vault2" in log


def test_read_only_leaves_the_keys_of_directories(happen: Happen) -> None:
    row = replace(ENCRYPTED, name=f"control: {ENCRYPTED.name}", path=REMOUNT, to=ORACLE)
    outcome = happen(row)
    assert outcome.copies.keys  # of version 1 alone; of the other there is only what is derived
    assert outcome.copies.round_keys
