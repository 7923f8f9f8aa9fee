"""The report that is kept: where, of which size, with what in it, and that it stops nothing."""

from __future__ import annotations

import errno
import os
import pickle
import random
from collections.abc import Callable
from functools import partial

import pytest

from finalstage import keep, vfat
from finalstage.cli.report.shutdown import Shutdown, from_log, read
from finalstage.efi import VARIABLES
from finalstage.report import MAGIC, Report
from finalstage.stage import run
from tests.sim.draw import ERRORS, faults_from, machine_from
from tests.sim.kernel import HANG, SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.partition import Partition
from tests.sim.machine import Machine, Process
from tests.sim.properties import complaints
from tests.sim.stacks import main_stack

VARIABLE = f"{VARIABLES}/{keep.VARIABLE}"
OTHER = {f"{VARIABLES}/Boot0000-8be4df61-93ca-11d2-aa0d-00e098032b8c": b"\7\0\0\0a"}
SPARE, PLACE = "254:80", "/dev/vdf"
SECRET = "hunter2hunter2"


def machine_with(content: bytes = b"", **fields: object) -> Machine:
    """The main stack beside a disk that nobody uses."""
    machine = main_stack()
    machine.devices[SPARE] = Disk("vdf", SPARE)
    machine.contents[SPARE] = content
    for name, value in fields.items():
        setattr(machine, name, value)
    return machine


ESP, FILE = "254:81", "/boot/efi/EFI report"


def fat(state: int = 0) -> bytes:
    """The first sector of a file system that is FAT32, with its state."""
    sector = bytearray(512)
    sector[vfat.STATE_32], sector[510:] = state, vfat.SIGNATURE
    return bytes(sector)


def machine_with_esp(content: bytes | None = None) -> Machine:
    """The main stack beside a disk with an EFI system partition."""
    machine = machine_with()
    machine.devices[ESP] = Partition("vdf1", ESP, (SPARE,))
    machine.contents[ESP] = fat() if content is None else content
    machine.mounts.append(Mount(30, 10, "/oldroot/boot/efi", ESP, "vfat"))
    return machine


def shut_down(
    machine: Machine, place: str = "auto", faults: dict[object, object] | None = None
) -> SimKernel:
    kernel = SimKernel(machine, faults)
    run(kernel, ["poweroff", f"--report.place={place}"], {"FINALSTAGE_PID1": "yes"})
    return kernel


def kept(machine: Machine) -> Shutdown:
    """What is kept in the variable."""
    assert machine.efi[VARIABLE][:4] == b"\7\0\0\0"
    return read(machine.efi[VARIABLE][4:])


def said(kernel: SimKernel) -> list[str]:
    """What was said about keeping it."""
    return [line.split("] ", 1)[1].strip() for line in kernel.said if "the report" in line]


def test_in_an_efi_variable_where_there_are_some() -> None:
    machine = machine_with(efi=dict(OTHER))
    kernel = shut_down(machine)
    assert said(kernel) == ["kept the report in an EFI variable"]
    found = kept(machine)
    assert (found.verb, found.closed, found.remaining, found.keys_left) == ("poweroff", 4, 0, 0)
    layers = {step.layer: step for step in found.steps}
    assert layers["crypt cryptroot"].phase == "close"
    assert layers["raid1 md0"].kind == "md" and not layers["raid1 md0"].error
    assert machine.efi.items() >= OTHER.items()
    assert int(found.when.timestamp()) == 1_700_000_000


def test_the_next_one_takes_its_place() -> None:
    machine = machine_with(efi={**OTHER, VARIABLE: b"\7\0\0\0old"}, immutable={VARIABLE})
    shut_down(machine)
    assert kept(machine).closed == 4


def test_firmware_that_takes_only_little_gets_little() -> None:
    machine = machine_with(efi=dict(OTHER), efi_most=1024)
    machine.mounts += [Mount(100 + n, 10, f"/oldroot/m{n}", "254:0") for n in range(50)]
    shut_down(machine)
    found = kept(machine)
    assert found.closed == 54
    assert found.steps_left_out > 40


def test_on_the_partition_that_is_named() -> None:
    old = machine_with()
    shut_down(old, PLACE)
    for content in (b"", old.contents[SPARE]):
        machine = machine_with(content, efi=dict(OTHER))
        kernel = shut_down(machine, PLACE)
        assert said(kernel) == [f"kept the report on {PLACE}"]
        assert read(machine.contents[SPARE]).closed == 4
        assert VARIABLE not in machine.efi
        assert not machine.devices[SPARE].dirty


@pytest.mark.parametrize(
    ("place", "content", "words"),
    [
        (PLACE, b"\0" * 70_000 + b"_BHRfS_M", "it holds something else; fill its first 131072"),
        ("/dev/vda", b"", "something stood on it"),
        ("/dev/md0", b"", "it is not there any more"),
        ("/dev/vdx", b"", "not there"),
        ("/proc/50/maps", b"", "it is no block device"),
        ("efi", b"", "there are no efi variables"),
        ("pstore", b"", "pstore has no backend"),
    ],
)
def test_what_is_no_place_is_said_and_nothing_is_written(
    place: str, content: bytes, words: str
) -> None:
    machine = machine_with(content)
    before = dict(machine.contents)
    kernel = shut_down(machine, place)
    (line,) = said(kernel)
    assert line.startswith(f"cannot keep the report in {place}: ") and words in line
    assert machine.contents == before
    assert kernel.down == "poweroff"


@pytest.mark.parametrize("place", [FILE, "/dev/vdf1//EFI report"])
def test_in_a_file_on_the_efi_system_partition(place: str) -> None:
    machine = machine_with_esp()
    if place != FILE:
        machine.mounts.pop()  # as init leaves it
    kernel = shut_down(machine, place)
    assert said(kernel) == [f"kept the report in {place}"]
    assert read(machine.kept_files[ESP]["/EFI report"]).remaining == 0
    assert not [mount for mount in machine.mounts if mount.device == ESP]
    calls = [call for call in kernel.done if call[1] in (ESP, vfat.PLACE) or "EFI" in call[1]]
    assert calls[-4:] == [
        *(("mount_device", ESP), ("replace_file", f"{vfat.PLACE}/EFI report")),
        *(("umount", vfat.PLACE), ("flush", ESP)),
    ]
    assert not machine.devices[ESP].dirty and not kernel.lost


def test_beside_what_stood_on_another_partition_of_its_disk() -> None:
    machine = machine_with_esp()
    machine.devices["254:82"] = Partition("vdf2", "254:82", (SPARE,))
    machine.mounts.append(Mount(31, 10, "/oldroot/srv", "254:82"))
    assert said(shut_down(machine, FILE)) == [f"kept the report in {FILE}"]
    assert list(machine.kept_files) == [ESP]


def beside_it(machine: Machine) -> None:
    machine.mounts.append(Mount(31, 10, "/oldroot/srv", ESP))


def stays(machine: Machine) -> None:
    machine.mounts[-1].busy = True


def is_on_an_array(machine: Machine) -> None:
    machine.devices[ESP].below = ("9:0",)
    machine.devices["9:0"].busy = True
    machine.mounts.append(Mount(31, 1, "/aside", "9:0", busy=True))


def hides(machine: Machine) -> None:
    machine.mounts.append(Mount(31, 10, "/oldroot/boot", "0:40", "tmpfs"))
    machine.mounts.append(Mount(32, 31, "/oldroot/boot/efi", "0:41", "ext2"))


@pytest.mark.parametrize(
    ("content", "change", "place", "words"),
    [
        (fat(1), None, FILE, "was not unmounted cleanly once; repair it with fsck.vfat"),
        (bytes(512), None, FILE, "there is no vfat on its device"),
        (fat(), stays, FILE, "its file system could not be unmounted"),
        (fat(), beside_it, FILE, "something else stood on its device"),
        (fat(), is_on_an_array, FILE, "something else stood on its device"),
        (fat(), hides, FILE, "it is no block device, and lies on ext2, not on vfat"),
        (fat(), None, "/srv/report", "it is no block device, and lies on ext4, not on vfat"),
        (fat(), None, "/boot/efi", "it is a directory"),
        (fat(), None, "/boot/efi/none/report", "not there"),
        (fat(), None, "/dev/vdx//report", "not there"),
        (fat(), None, "/dev/vdf1//\xe9", "its name is not ascii"),
    ],
)
def test_no_file_is_written_where_it_might_do_harm(
    content: bytes, change: Callable[[Machine], None] | None, place: str, words: str
) -> None:
    machine = machine_with_esp(content)
    if change:
        change(machine)
    kernel = shut_down(machine, place)
    (line,) = said(kernel)
    assert line.startswith(f"cannot keep the report in {place}: ") and words in line.lower()
    assert not machine.kept_files
    assert kernel.down == "poweroff"


def test_never_on_what_is_in_use_or_on_a_disk_that_hangs() -> None:
    machine = machine_with()
    machine.mounts.append(Mount(30, 10, "/oldroot/srv", SPARE, busy=True))
    assert "something stood on it" in said(shut_down(machine, PLACE))[0]
    machine = machine_with()
    machine.devices[SPARE].dead = True
    kernel = shut_down(machine, PLACE)
    assert said(kernel)[0].startswith(f"cannot keep the report in {PLACE}: ")
    assert machine.contents == {SPARE: b""}
    assert kernel.down_at <= 90


def test_in_pstore_by_the_end_of_the_log() -> None:
    settings = machine_with().settings | {keep.BACKEND: "ramoops", keep.DUMP_ALWAYS: "N"}
    machine = machine_with(settings=settings)
    kernel = shut_down(machine)
    assert said(kernel) == ["left the report to the kernel, for pstore by ramoops"]
    assert machine.settings[keep.DUMP_ALWAYS] == "Y"
    pieces = [record for record in kernel.records if "finalstage: kept " in record]
    assert all(len(piece) < 900 for piece in pieces)
    assert from_log(pieces).closed == 4
    # Without one of its pieces the records tell.
    records = [record for record in kernel.records if record != pieces[0]]
    assert from_log(records).steps == from_log(pieces).steps
    settings[keep.BACKEND] = "efi"  # of which each dump would take many variables
    assert said(shut_down(machine_with(settings=settings))) == []


@pytest.mark.parametrize("place", ["auto", "none"])
def test_where_there_is_no_place_it_is_only_said(place: str) -> None:
    machine = machine_with(efi=dict(OTHER) if place == "none" else {})
    kernel = shut_down(machine, place)
    assert said(kernel) == []
    assert "closed 4, remaining 0" in kernel.said[-1]
    assert VARIABLE not in machine.efi


CALLS = (
    *(("create", VARIABLE), ("write", VARIABLE), ("make_mutable", VARIABLE)),
    *(("read_device", SPARE), ("write_device", SPARE), ("stat", PLACE)),
    *(("listdir", VARIABLES), ("mount_api", VARIABLES), ("write", keep.DUMP_ALWAYS)),
)
FAULTS = (HANG, OSError(errno.ENOSPC, "No space left on device"), MemoryError())


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1][-12:]}")
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_whatever_fails_the_machine_goes_down(call: tuple[str, str], fault: object) -> None:
    there = {VARIABLE: b"\7\0\0\0old"} if call[0] == "write" else {}
    settings = machine_with().settings
    if call[1] == keep.DUMP_ALWAYS:
        settings |= {keep.BACKEND: "ramoops", keep.DUMP_ALWAYS: "N"}
        machine = machine_with(settings=settings)
    else:
        machine = machine_with(efi={**OTHER, **there})
    machine.moments = {"last": {"some": 0.1}}
    kernel = shut_down(machine, PLACE if call[1] in (SPARE, PLACE) else "auto", {call: fault})
    assert call in kernel.struck
    assert any("cannot keep the report" in line for line in said(kernel))
    assert [run.moment for run in kernel.moment_runs] == ["last"]
    assert (kernel.down, set(kernel.machine.devices)) == ("poweroff", {"254:0", "254:16", SPARE})
    assert kernel.down_at < 12


FILE_CALLS = (
    *(("read_device", ESP), ("mount_device", ESP), ("replace_file", f"{vfat.PLACE}/EFI report")),
    *(("umount", vfat.PLACE), ("stat", "/oldroot/boot/efi")),
)


@pytest.mark.parametrize("call", FILE_CALLS, ids=lambda call: f"{call[0]} {call[1][-12:]}")
@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_whatever_fails_with_a_file_the_machine_goes_down(
    call: tuple[str, str], fault: object
) -> None:
    machine = machine_with_esp()
    machine.moments = {"last": {"some": 0.1}}
    kernel = shut_down(machine, FILE, {call: fault})
    assert call in kernel.struck
    assert any(f"cannot keep the report in {FILE}: " in line for line in said(kernel))
    if call[1] != vfat.PLACE and fault is not HANG:
        assert vfat.PLACE not in [mount.target for mount in machine.mounts]
    assert [run.moment for run in kernel.moment_runs] == ["last"]
    assert (kernel.down, kernel.down_at < 40) == ("poweroff", True)


def test_never_beside_an_unmount_that_hangs() -> None:
    machine = machine_with_esp()
    kernel = shut_down(machine, FILE, {("umount", "/oldroot/boot/efi"): HANG})
    assert said(kernel) == [
        f"cannot keep the report in {FILE}: its file system could not be unmounted"
    ]
    assert not machine.kept_files
    assert (kernel.down, kernel.down_at < 90) == ("poweroff", True)


DRAWN = 60


@pytest.mark.parametrize("shard", range(2))
def test_any_machine_can_keep_one(shard: int) -> None:
    told = 0
    for number in range(shard, DRAWN, 2):
        dice = random.Random(number)
        machine = machine_from(partial(dice.randint, 0))
        machine.efi, machine.efi_most = dict(OTHER), (1 << 15, 1024)[dice.randint(0, 1)]
        faults = faults_from(partial(dice.randint, 0), machine)
        if dice.randint(0, 1):
            code = dice.choice(ERRORS)
            fault = dice.choice((HANG, OSError(code, os.strerror(code))))
            faults[dice.choice(("create", "make_mutable"))] = fault
        saved = pickle.dumps(machine)
        assert complaints(machine, faults) == [], number
        machine = pickle.loads(saved)
        shut_down(machine, "auto", faults)
        if VARIABLE in machine.efi:
            assert len(machine.efi[VARIABLE]) <= min(keep.MOST_IN_VARIABLE[0] + 4, machine.efi_most)
            told += kept(machine).closed is not None
    assert told > DRAWN / 8


@pytest.mark.parametrize("most", [300, 900, 4000, 65536])
def test_no_report_is_larger_than_it_may_be(most: int) -> None:
    dice = random.Random(most)
    report = Report(urgent=("!",))
    for number in range(5000):
        words = "".join(map(chr, dice.choices((97, 34, 0x1F600, 0xDC80), k=dice.randint(1, 300))))
        facts = {"layer": words, "id": f"mount:{number}", "kind": "mount", "seconds": number / 1e4}
        report.take(number / 100, "close", {**facts, "error": words if number % 900 == 0 else None})
        report.take(number / 100, "problem", {"words": f"!{number}" if number == 77 else words})
        if number % 300 == 0:
            report.take(number / 100, "phase", {"phase": f"phase{number}"})
    report.take(50, "start", {"verb": "reboot", "when": 1_700_000_000})
    data = report.written(most)
    assert len(data) <= most
    assert max(len(report.layers), len(report.said)) < 3000
    found = read(data)
    urgent = [line.words for line in found.words if line.words.startswith("!")]
    assert urgent == (["!77"] if most > 300 else [])
    assert len(found.steps) + found.steps_left_out == 5000
    assert len(found.words) + found.words_left_out == 5000
    assert most <= 900 or any(step.error for step in found.steps)


def test_layers_that_failed_and_slow_ones_come_first() -> None:
    report = Report()
    for number in range(300):
        error = "busy" if number == 5 else None
        facts = {"layer": f"ext4 /mnt/{number}", "id": f"mount:{number}", "kind": "mount"}
        report.take(300, "close", {**facts, "seconds": number, "error": error})
    names = {step.layer for step in read(report.written(4000)).steps}
    count = len(names) - 1
    assert names == {"ext4 /mnt/5", *(f"ext4 /mnt/{number}" for number in range(300 - count, 300))}


def test_what_is_secret_on_the_machine_is_not_in_it() -> None:
    machine = machine_with(efi={**OTHER, f"{VARIABLES}/Secret-0": b"\7\0\0\0" + SECRET.encode()})
    machine.command_line = f"quiet luks.key={SECRET} finalstage.scrub=always"
    machine.processes[100] = Process(
        *(100, "mysql", 1, f"mysql\0-p{SECRET}", "D"),
        immortal=True,
        ignores_term=True,
        holds=("253:1",),
    )
    machine.kernel_log = f"6,80,0,-;systemd: {SECRET}\n".encode()
    machine.keyrings = {0: ("user cryptsetup",), 1000: ("logon other",)}
    machine.contents["254:0"] = SECRET.encode()
    machine.vaults = {"/oldroot/home/vault": SECRET.encode()}
    machine.vault_keys = {SECRET.encode()}
    kernel = shut_down(machine)
    data = machine.efi[VARIABLE]
    assert b"remains ext4 /: busy; held by mysql[100]" in data  # the control: it tells who
    for form in (SECRET.encode(), SECRET.encode().hex().encode()):
        assert form not in data.replace(b"\\u0000", b"")
    assert SECRET not in "".join(kernel.records)


def test_a_report_of_a_stage_that_failed_at_once_can_be_read() -> None:
    found = read(Report().written(4000))
    assert (found.verb, found.closed, found.steps) == ("", None, ())


def test_damage_is_noticed() -> None:
    data = Report().written(4000)
    assert data.startswith(MAGIC)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(Exception, match=r"damaged|cut off|no report"):
            read(bytes(damaged))
        if place > len(MAGIC):
            with pytest.raises(Exception, match=r"damaged|cut off"):
                read(data[:place])
