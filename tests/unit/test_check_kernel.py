"""What `finalstage check` says of the kernel, of memory, and of what may forbid its use."""

from __future__ import annotations

import errno
import gzip
from collections.abc import Mapping

import pytest

from finalstage import efi, mor
from finalstage.cli.check import kernel as check_kernel
from finalstage.cli.check import memory
from finalstage.cli.check.kernel import INTERFACES
from finalstage.cli.check.readiness import OK, PROBLEM, UNKNOWN, WARNING, Finding
from finalstage.keys import GC_DELAY, KEYS, USERS
from tests.sim.lacking import LACKS, Lack
from tests.unit.files_kernel import machine

MOUNTS = "22 1 0:20 / /proc rw,nosuid - proc proc rw\n"
ALL = {
    **{path: "" for each in INTERFACES for path in each.paths},
    "/sys/class/block/sda/dev": "8:0\n",
    "/proc/self/mountinfo": MOUNTS,
    **dict.fromkeys((KEYS, USERS, GC_DELAY), ""),
    "/proc/1/status": "Name:\tsystemd\nCapEff:\t000001ffffffffff\n",
}
del ALL["/sys/class/block"]


def found(files: Mapping[str, str | bytes | OSError], **more: object) -> dict[str, Finding]:
    """What is found on a machine with these files, by the names."""
    return {each.name: each for each in check_kernel.look(machine(files, **more))}  # type: ignore[arg-type]


def test_all_is_there() -> None:
    assert {each.verdict for each in found(ALL).values()} == {OK}
    assert found(ALL)["interfaces"].found.startswith("all 9 files")


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda each: each.name)
def test_each_interface_that_is_missing_is_named(interface: check_kernel.Interface) -> None:
    for path in interface.paths:
        there = {each: content for each, content in ALL.items() if not each.startswith(path)}
        said = found(there)
        assert said[interface.name].verdict == interface.verdict
        assert path in said[interface.name].found
        assert said[interface.name].remedy
        assert "interfaces" not in said


# What the report says is lacking, check says before; but for what nobody can see in files.
UNSEEN = {
    "attributes of md",  # are those of an array that is there
    "reset of SCSI disks",  # one would have to be reset
    "dm of our version",  # a device says so when it is looked at: the layers' rows
}
SEEN_OTHERWISE = {"sysctl that may be written": "settings", "locked memory": "rights"}
SAID = [lack for lack in LACKS if lack.said and lack.name not in UNSEEN]


@pytest.mark.parametrize("lack", SAID, ids=lambda lack: lack.name)
def test_what_the_report_would_say_is_said_before(lack: Lack) -> None:
    files: dict[str, str | bytes | OSError] = {
        path: content for path, content in ALL.items() if not hides(lack, path)
    }
    if lack.name == "sysctl that may be written":
        files["/proc/self/mountinfo"] = MOUNTS + "23 22 0:20 /sys /proc/sys ro - proc proc rw\n"
    if lack.name == "locked memory":
        files["/proc/1/status"] = f"CapEff:\t{0x1FFFFFFFFFF & ~(1 << 14):x}\n"
    wrong = [each for each in found(files).values() if each.verdict != OK]
    assert wrong and all(each.remedy for each in wrong)
    if lack.name in SEEN_OTHERWISE:
        assert [each.name for each in wrong] == [SEEN_OTHERWISE[lack.name]]


def hides(lack: Lack, path: str) -> bool:
    """Whether a path, or a folder that it is in, is not there without it."""
    parts = path.split("/")
    return any(lack.hides("/".join(parts[:end])) for end in range(2, len(parts) + 1))


def test_a_kernel_without_keyrings_has_nothing_to_say_of_them() -> None:
    files = {path: text for path, text in ALL.items() if path not in (KEYS, USERS, GC_DELAY)}
    assert "keys in /proc" not in found(files)


@pytest.mark.parametrize(
    ("changes", "name", "verdict", "words"),
    [
        ({"/proc/1/status": "CapEff:\t00000000a80425fb\n"}, "rights", PROBLEM, "no CAP_IPC_LOCK"),
        ({"/proc/1/status": PermissionError(13, "")}, "rights", UNKNOWN, "PID 1"),
        ({check_kernel.SELINUX: "1"}, "SELinux", WARNING, "enforcing"),
        ({check_kernel.LOCKDOWN: "none [integrity] confidentiality\n"}, "lockdown", OK, "integ"),
    ],
)
def test_what_may_forbid_it(changes: dict[str, str], name: str, verdict: str, words: str) -> None:
    said = found({**ALL, **changes})[name]
    assert (said.verdict, words in said.found) == (verdict, True)
    assert said.remedy or verdict == OK


def test_what_forbids_nothing_is_not_said() -> None:
    quiet = {check_kernel.SELINUX: "0", check_kernel.LOCKDOWN: "[none] integrity\n"}
    assert found({**ALL, **quiet}).keys() == found(ALL).keys()


# -- memory ----------------------------------------------------------------------------------------

DOG = "/sys/class/watchdog/watchdog0"
STAT = "7 (feeder) S 1 7 7 0 -1 0 0 0 0 0"
DOG_FILES = {f"{DOG}/identity": "iTCO_wdt\n", f"{DOG}/state": "active\n", "/proc/7/stat": STAT}
CONFIG = "/boot/config-6.1"
BUILT_IN = {"/proc/sys/kernel/osrelease": "6.1\n", CONFIG: "CONFIG_INIT_ON_FREE_DEFAULT_ON=y\n"}
GZIPPED = {"/proc/config.gz": gzip.compress(b"\nCONFIG_INIT_ON_FREE_DEFAULT_ON=y\n")}
EFI = {"/sys/firmware/efi/systab": ""}
OFF = {"/proc/cmdline": "init_on_free=0"}
LOADED = {"/sys/kernel/kexec_loaded": "1\n"}
ROWS = [
    ("watchdog", {}, {}, WARNING, "there is none"),
    ("watchdog", DOG_FILES, {"watchdog": False}, WARNING, "says not to"),
    ("watchdog", DOG_FILES, {}, OK, "watchdog0 (iTCO_wdt) is there, and nobody"),
    ("watchdog", DOG_FILES, {"as_root": False}, OK, "is active"),
    (
        "watchdog",
        DOG_FILES,
        {"links": {"/proc/7/fd/3": "/dev/watchdog0"}},
        OK,
        "watchdog0 (iTCO_wdt) is fed by feeder[7]",
    ),
    ("init_on_free", {}, {}, WARNING, "keeps its content"),
    ("init_on_free", {"/proc/cmdline": "ro init_on_free=1"}, {}, OK, "clears"),
    ("init_on_free", {}, {"log": b"mem auto-init: heap alloc:off, heap free:on"}, OK, "clears"),
    ("init_on_free", BUILT_IN, {}, OK, "clears"),
    ("init_on_free", GZIPPED, {}, OK, "clears"),
    ("init_on_free", {**BUILT_IN, **OFF}, {}, WARNING, "keeps its content"),
    ("init_on_free", {}, {"as_root": False}, UNKNOWN, "whether the kernel clears"),
    ("init_on_free", OFF, {"as_root": False}, WARNING, "keeps its content"),
    ("firmware", {}, {}, OK, "no UEFI"),
    ("firmware", EFI, {"firmware_scrub": False}, OK, "says not to"),
    ("firmware", {**EFI, f"{efi.VARIABLES}/{mor.NAME}": ""}, {}, OK, "will be asked"),
    ("firmware", {**EFI, f"{efi.VARIABLES}/Boot0000": ""}, {}, WARNING, "knows no request"),
    ("firmware", EFI, {}, UNKNOWN, "cannot be seen: not there"),
    ("kexec", {}, {}, OK, "no kernel is loaded"),
    ("kexec", LOADED, {}, WARNING, "memory stays"),
    ("kexec", LOADED, {"key_left": "poweroff"}, OK, "a kernel is loaded"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "files", "more", "verdict", "words"), ROWS)
def test_what_becomes_of_memory(
    name: str, files: dict[str, str], more: dict[str, object], verdict: str, words: str
) -> None:
    of = machine({"/proc": OSError(errno.EACCES, ""), **files}, **more)  # type: ignore[arg-type]
    if "/proc/7/stat" in files:
        del of.kernel.files["/proc"]  # type: ignore[attr-defined]
    said = next(each for each in memory.look(of) if each.name == name)
    assert (said.verdict, said.found if words not in said.found else words) == (verdict, words)
    assert bool(said.remedy) == (verdict != OK)
