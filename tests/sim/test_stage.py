"""The whole stage on the simulated kernel: what it closes, in which order, and what it says."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import pytest

from finalstage import stage
from finalstage.close import Closer
from finalstage.kernel import Target
from finalstage.scan import scan
from finalstage.stack import Stack
from finalstage.stage import run
from tests.sim.kernel import HANG, SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Frozen, Mount, Unseen
from tests.sim.kinds.scsi import Scsi
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine, Process
from tests.sim.stacks import bare_machine, disk, main_stack

CRYPT, ROOT, ARRAY = "253:0", "253:1", "9:0"
LINEAR = Target(0, 2048, "linear")


def shut_down(
    machine: Machine, *arguments: str, faults: dict[object, object] | None = None
) -> SimKernel:
    """Run the stage to its end."""
    kernel = SimKernel(machine, faults)
    run(kernel, list(arguments) or ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


def order(kernel: SimKernel, *operations: str) -> list[tuple[str, str]]:
    """Return what was done, of some operations, in its order."""
    return [done for done in kernel.done if done[0] in operations]


def devices(machine: Machine) -> set[str]:
    """Return the kernel names of all block devices."""
    return {device.name for device in machine.devices.values()}


def keyless(machine: Machine) -> bool:
    """Whether the LUKS device is gone, or has lost its key."""
    return CRYPT not in machine.devices or not machine.the(Dm, CRYPT).has_key()


def test_main_stack_is_closed_from_the_top_down() -> None:
    kernel = shut_down(main_stack())
    assert order(kernel, "umount", "dm_remove", "stop_array")[-4:] == [
        ("umount", "/oldroot"),
        ("dm_remove", ROOT),
        ("dm_remove", CRYPT),
        ("stop_array", ARRAY),
    ]
    assert devices(kernel.machine) == {"vda", "vdb"}
    assert kernel.down == "poweroff"


def test_nothing_stays_dirty() -> None:
    kernel = shut_down(main_stack())
    assert not any(device.dirty for device in kernel.machine.devices.values())


def test_own_mounts_stay() -> None:
    kernel = shut_down(main_stack())
    assert [mount.target for mount in kernel.machine.mounts] == ["/", "/proc", "/sys", "/dev"]


@pytest.mark.parametrize("verb", ["poweroff", "halt", "reboot"])
def test_verb(verb: str) -> None:
    assert shut_down(main_stack(), verb).down == verb


def test_kexec_with_a_loaded_kernel() -> None:
    machine = main_stack()
    machine.kexec_loaded = True
    assert shut_down(machine, "kexec").down == "kexec"


def test_kexec_without_a_loaded_kernel_reboots_and_says_so() -> None:
    kernel = shut_down(main_stack(), "kexec")
    assert kernel.down == "reboot"
    assert "no kernel is loaded for kexec: rebooting" in "".join(kernel.said)


def test_reboot_parameter() -> None:
    machine = main_stack()
    machine.reboot_parameter = "recovery"
    assert shut_down(machine, "reboot").argument == "recovery"


def test_nested_and_hidden_mounts() -> None:
    machine = main_stack()
    machine.mounts += [
        Mount(20, 10, "/oldroot/a/b", "254:0"),
        Mount(21, 10, "/oldroot/a", "0:40", "tmpfs"),
        Mount(22, 21, "/oldroot/a/c d", "0:41", "tmpfs"),
    ]
    kernel = shut_down(machine)
    targets = [target for _, target in order(kernel, "umount")]
    assert targets.index("/oldroot/a/c d") < targets.index("/oldroot/a")
    assert targets.index("/oldroot/a") < targets.index("/oldroot/a/b")


def test_swap_goes_before_its_volume() -> None:
    machine = main_stack()
    machine.devices["253:2"] = Dm(
        "dm-2", "253:2", (CRYPT,), title="vg-swap", targets=(Target(0, 1024, "linear"),)
    )
    machine.swaps = [Swap("/oldroot/dev/dm-2", "253:2")]
    kernel = shut_down(machine)
    done = order(kernel, "swapoff", "umount", "dm_remove")
    assert done.index(("swapoff", "/oldroot/dev/dm-2")) < done.index(("dm_remove", "253:2"))
    assert done.index(("swapoff", "/oldroot/dev/dm-2")) < done.index(("umount", "/oldroot/dev"))
    assert devices(machine) == {"vda", "vdb"}


def test_busy_root_is_read_only_and_its_key_wiped() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    kernel = shut_down(machine)
    assert machine.mounts[4].readonly
    assert keyless(machine)
    said = "".join(kernel.said)
    assert "remains ext4 /: busy" in said
    assert "wiped the key of crypt cryptroot" in said
    assert "keys left 0" in said
    assert kernel.down == "poweroff"


def test_what_cannot_be_made_read_only_is_frozen() -> None:
    machine = main_stack()
    machine.mounts[4].busy = machine.mounts[4].written = True
    kernel = shut_down(machine)
    assert ("freeze", "/oldroot") in kernel.done
    assert not machine.mounts[4].dirty


def test_what_was_frozen_before_goes_on_and_is_closed() -> None:
    machine = main_stack()
    machine.others.append(Frozen(ROOT))
    kernel = shut_down(machine)
    assert kernel.lost == []
    assert devices(machine) == {"vda", "vdb"}


def test_what_cannot_be_frozen_either_is_written_out() -> None:
    machine = main_stack()
    machine.mounts[4].busy = machine.mounts[4].written = True
    refused = OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    kernel = shut_down(machine, faults={"freeze": refused})
    assert not machine.mounts[4].dirty
    assert "ext4 /: cannot make it read-only: busy" in "".join(kernel.said)


def test_key_that_cannot_be_wiped_is_said_in_capitals() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    refused = OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    kernel = shut_down(machine, faults={"dm_message": refused, "dm_load_error": refused})
    assert "A KEY MAY REMAIN IN MEMORY: crypt cryptroot" in "".join(kernel.said)
    assert "keys left 1" in "".join(kernel.said)
    assert kernel.down == "poweroff"


def test_power_off_in_place_of_reboot_where_a_key_may_remain() -> None:
    for arguments, down in (
        (["reboot"], "reboot"),
        (["reboot", "--key-left=poweroff"], "poweroff"),
    ):
        assert shut_down(hung("vda"), *arguments).down == down
    assert shut_down(main_stack(), "reboot", "--key-left=poweroff").down == "reboot"


def test_below_a_foreign_pid_1_a_sealed_device_stays_suspended() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    kernel = SimKernel(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "no"})
    assert not machine.the(Dm, CRYPT).has_key()
    assert machine.the(Dm, CRYPT).suspended
    assert "dm_load_error" not in [done[0] for done in kernel.done]
    assert kernel.down == "poweroff"


def test_an_error_table_takes_the_key_where_no_message_reaches_it() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    machine.the(Dm, CRYPT).targets = (Target(0, 2048, "integrity"),)
    kernel = shut_down(machine)
    assert keyless(machine)
    assert "keys left 0" in "".join(kernel.said)


def test_inactive_table_is_cleared_and_a_second_segment_wiped() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    machine.the(Dm, CRYPT).inactive_table = True
    machine.the(Dm, CRYPT).targets = (Target(0, 1024, "crypt"), Target(1024, 1024, "crypt"))
    kernel = shut_down(machine)
    assert ("dm_clear", CRYPT) in kernel.done
    assert order(kernel, "dm_message") == [("dm_message", CRYPT)] * 2


def hung(name: str) -> Machine:
    """Return the main stack on one more device that answers nothing, below its LUKS."""
    machine = main_stack()
    machine.mounts[4].device = ROOT
    machine.devices = {
        "8:0": disk(name, "8:0"),
        CRYPT: machine.devices[CRYPT],
        ROOT: machine.devices[ROOT],
    }
    machine.devices["8:0"].dead = True
    machine.devices[CRYPT].below = ("8:0",)
    return machine


@pytest.mark.parametrize("name", ["sda", "nbd0", "nvme0n1"])
def test_a_disk_that_answers_nothing_is_taken_away_and_no_key_stays(name: str) -> None:
    kernel = shut_down(hung(name))
    assert keyless(kernel.machine)
    kind = "nbd" if name == "nbd0" else "disk"
    assert f"{kind} {name} does not answer: it" in "".join(kernel.said)
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 90


def test_a_disk_that_a_reset_revives_loses_nothing() -> None:
    machine = hung("sda")
    machine.the(Scsi, "8:0").revives = True
    kernel = shut_down(machine)
    assert kernel.lost == []
    assert devices(machine) == {"sda"}
    assert "disk sda does not answer: it was reset, and answers again" in "".join(kernel.said)


def test_a_disk_that_nothing_takes_away_is_said_to_keep_the_key() -> None:
    kernel = shut_down(hung("vda"))
    said = "".join(kernel.said)
    assert "disk vda does not answer, and the kernel has no way to give it up" in said
    assert "A KEY MAY REMAIN IN MEMORY: crypt cryptroot" in said
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 90


def test_a_suspended_device_below_is_freed_first() -> None:
    machine = hung("vda")
    machine.devices["8:0"].dead = False
    machine.devices["253:7"] = Dm(
        "dm-7", "253:7", ("8:0",), title="hang", targets=(Target(0, 2048, "crypt"),),
        suspended=True,
    )  # fmt: skip
    machine.devices[CRYPT].below = ("253:7",)
    kernel = shut_down(machine)
    assert devices(machine) == {"vda"}
    assert "crypt hang does not answer: it fails all I/O from now on" in "".join(kernel.said)


def test_a_mirror_goes_on_without_its_dead_half_and_loses_nothing() -> None:
    machine = main_stack()
    machine.devices["254:16"] = disk("sdb", "254:16")
    machine.devices["254:16"].dead = True
    kernel = shut_down(machine)
    assert kernel.lost == []
    assert devices(machine) == {"vda", "sdb"}


def mirror(dead: str) -> Machine:
    """Return the main stack with a dead half named `dead`, whose other half is busy without it."""
    machine = main_stack()
    machine.devices["254:0"].busy = True
    machine.devices["254:16"] = disk(dead, "254:16")
    machine.devices["254:16"].dead = True
    return machine


@pytest.mark.parametrize("name", ["sdb", "nvme0n1"])
def test_a_mirror_keeps_its_busy_half_when_the_dead_one_was_taken_away(name: str) -> None:
    kernel = shut_down(mirror(name))
    assert kernel.lost == []
    assert not [path for _, path in order(kernel, "write") if path.endswith("/dev-vda/state")]
    assert "closed raid1 md0" in "".join(kernel.said)


def test_a_dead_half_that_nothing_takes_away_is_marked_as_faulty() -> None:
    kernel = shut_down(mirror("vdb"))
    states = {path for _, path in order(kernel, "write") if path.endswith("/state")}
    assert states == {"/sys/dev/block/9:0/md/dev-vdb/state"}


def test_of_two_dead_halves_none_is_marked_as_faulty() -> None:
    machine = mirror("vdb")
    machine.devices["254:0"].dead = True
    kernel = shut_down(machine)
    assert not [path for _, path in order(kernel, "write") if path.endswith("/state")]
    assert kernel.down_at <= 90


def nvme_fails(code: int) -> SimKernel:
    """Shut a machine down whose dead NVMe disk says `code` when it is to be reset, and is left
    behind by its driver at the same time."""
    path = "/sys/dev/block/254:16/device/reset_controller"

    class Removing(SimKernel):
        def write(self, to: str, data: bytes) -> None:
            super().write(to, data)
            if to == path:
                raise OSError(code, os.strerror(code), to)

    kernel = Removing(mirror("nvme0n1"))
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


@pytest.mark.parametrize("code", [errno.ENETRESET, errno.EBUSY, errno.ENODEV])
def test_a_disk_that_its_driver_removes_meanwhile_has_let_go(code: int) -> None:
    kernel = nvme_fails(code)
    assert kernel.lost == []
    assert "closed crypt cryptroot" in "".join(kernel.said)
    assert "wiped the key" not in "".join(kernel.said)


def test_healthy_disks_are_never_taken_away() -> None:
    machine = main_stack()
    machine.devices |= {"254:0": disk("sda", "254:0"), "254:16": disk("sdb", "254:16")}
    machine.mounts[4].busy = True
    kernel = shut_down(machine)
    assert not [path for _, path in order(kernel, "write") if path.startswith("/sys/dev/")]


def test_the_kernel_hurries_until_keys_are_freed() -> None:
    kernel = shut_down(main_stack())
    hurry = ("write", "/sys/kernel/rcu_expedited")
    assert kernel.done.count(hurry) == 2
    first = kernel.done.index(hurry)
    second = kernel.done.index(hurry, first + 1)
    assert first < kernel.done.index(("umount", "/oldroot"))
    assert kernel.done.index(("stop_array", ARRAY)) < second
    assert second < kernel.done.index(("clear_keyrings", "0"))


def test_the_first_scan_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter((False, *[True] * 99))

    def at_first_none(*arguments: Any) -> Stack:
        if not next(calls):
            raise OSError(errno.EIO, "")
        return scan(*arguments)

    monkeypatch.setattr("finalstage.stage.scan", at_first_none)
    machine = main_stack()
    machine.processes.clear()  # nobody to end, after which one would look again
    assert "closed 4, remaining 0" in shut_down(machine).said[-1]


def test_of_many_layers_the_console_is_told_of_some() -> None:
    machine = main_stack()
    machine.mounts += [Mount(100 + n, 10, f"/oldroot/m{n}", "254:0") for n in range(500)]
    said = shut_down(machine).said
    assert len(said) < 80
    assert "closed 504, remaining 0" in said[-1]


def test_errors_panic_is_defused_before_anything_is_written() -> None:
    machine = main_stack()
    machine.mounts[4].options = "errors=panic"
    kernel = shut_down(machine)
    assert order(kernel, "remount", "umount", "flush")[0] == ("remount", "/oldroot")


def test_suspended_device_is_not_flushed() -> None:
    machine = main_stack()
    machine.mounts = [mount for mount in machine.mounts if mount.device != ROOT]
    machine.the(Dm, ROOT).suspended = True
    machine.the(Dm, ROOT).targets = (Target(0, 1024, "crypt"),)
    kernel = shut_down(machine)
    assert ("flush", ROOT) not in kernel.done
    assert devices(machine) == {"vda", "vdb"}


def test_device_without_table_is_not_flushed() -> None:
    machine = main_stack()
    machine.devices["253:9"] = Dm("dm-9", "253:9", sectors=0)
    kernel = shut_down(machine)
    assert ("flush", "253:9") not in kernel.done
    assert devices(machine) == {"vda", "vdb"}


def test_hanging_umount_does_not_stop_the_others() -> None:
    machine = main_stack()
    machine.devices["254:32"] = Disk("vdc", "254:32")
    machine.mounts.append(Mount(30, 1, "/oldroot-other", "254:32"))
    kernel = shut_down(machine, faults={("umount", "/oldroot-other"): HANG})
    assert devices(machine) == {"vda", "vdb", "vdc"}
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 90


WAITING = ["umount", "dm_remove", "stop_array", "flush", "sync"]
ERRORS = [OSError(errno.EIO, "I/O error"), MemoryError(), ZeroDivisionError()]


@pytest.mark.parametrize(
    ("operation", "fault"),
    [(operation, HANG) for operation in WAITING]
    + [(operation, fault) for operation in [*WAITING, "kill", "lock_memory"] for fault in ERRORS],
    ids=repr,
)
def test_down_in_time_whatever_fails(operation: str, fault: object) -> None:
    kernel = shut_down(main_stack(), faults={operation: fault})
    assert kernel.down == "poweroff"
    assert kernel.down_at <= 90
    assert keyless(kernel.machine)


def test_processes_get_term_then_kill() -> None:
    machine = main_stack()
    machine.processes |= {
        100: Process(100),
        101: Process(101, "stubborn", ignores_term=True, holds=(ROOT,)),
        102: Process(102, "mdmon", argv0="@usr/sbin/mdmon"),
    }
    kernel = shut_down(machine)
    assert set(machine.processes) == {1, 2, 50, 102}
    assert "killing what does not end by itself: stubborn[101]" in "".join(kernel.said)
    assert devices(machine) == {"vda", "vdb"}


def test_a_mount_that_has_left_the_tree_and_still_hangs_remains() -> None:
    """umount(2) takes it away before its file system is written out: scan sees no mount then."""
    machine = main_stack()
    machine.devices["253:5"] = Dm("dm-5", "253:5", ("254:0",), title="odd", targets=(LINEAR,))
    machine.devices["254:0"].dead = True
    machine.mounts.append(Mount(30, 10, "/oldroot/srv", "253:5"))
    kernel = shut_down(machine)
    said = "".join(kernel.said)
    assert "/oldroot/srv" not in [mount.target for mount in machine.mounts]
    assert "remains ext4 /srv: no answer in" in said
    assert "remains linear odd: held; held by ext4 /srv" in said
    assert "closed ext4 /srv" not in said


def test_who_holds_what_remains_is_named() -> None:
    machine = main_stack()
    machine.processes[103] = Process(
        103, "stuck", state="D", immortal=True, ignores_term=True, holds=(ROOT,)
    )
    kernel = shut_down(machine)
    said = "".join(kernel.said)
    assert "cannot end stuck[103]" in said
    assert "remains ext4 /: busy; held by stuck[103] (open file)" in said


def test_what_remains_is_drawn_with_what_it_stands_on() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    machine.the(Dm, CRYPT).targets = (Target(0, 2048, "linear"),)
    machine.devices["254:32"] = Disk("vdc", "254:32")
    said = [line.split("] ")[1] for line in shut_down(machine).said]
    drawn = said[said.index("disk vda\n") :]
    assert drawn[:5] == [
        "disk vda\n",
        "`-raid1 md0 (see disk vdb)\n",
        "disk vdb\n",
        "`-raid1 md0\n",
        "  `-linear cryptroot\n",
    ]
    assert not any("vdc" in line or "/oldroot" in line for line in drawn)


def test_what_remains_of_a_large_machine_does_not_fill_the_console() -> None:
    machine = main_stack()
    for number in range(300):
        machine.mounts.append(
            Mount(100 + number, 10, f"/oldroot/{number}", "253:1", busy=True, readonly=True)
        )
    said = "".join(shut_down(machine).said)
    assert said.count("`-") + said.count("|-") < 40
    assert "lines more" in said


def test_records_are_json() -> None:
    kernel = shut_down(main_stack())
    records = [json.loads(record.partition("finalstage: ")[2]) for record in kernel.records]
    (summary,) = [record for record in records if record["event"] == "summary"]
    assert set(summary["closed"]) == {
        "ext4 /", "linear vg-root", "crypt cryptroot", "raid1 md0",
    }  # fmt: skip
    assert summary["keys_left"] == 0


def test_quiet_says_only_problems() -> None:
    assert shut_down(main_stack(), "poweroff", "--quiet").said == []


def test_unknown_words_are_said_and_ignored() -> None:
    said = "".join(shut_down(main_stack(), "explode", "--frobnicate").said)
    assert "'explode' is not a verb" in said
    assert "ignoring the option 'frobnicate': there is no such option" in said


def test_a_reboot_that_hangs_is_followed_by_sysrq_at_once() -> None:
    kernel = shut_down(main_stack(), "reboot", faults={"reboot": HANG})
    assert kernel.down == "reboot"
    assert order(kernel, "reboot") == []
    assert kernel.down_at < 40


def test_failing_reboot_falls_back() -> None:
    denied = OSError(errno.EPERM, os.strerror(errno.EPERM))
    kernel = shut_down(main_stack(), faults={("reboot", "poweroff"): denied})
    assert kernel.down == "halt"
    kernel = shut_down(main_stack(), faults={"reboot": denied})
    assert kernel.down == "poweroff"
    assert ("write", "/proc/sysrq-trigger") in kernel.done


def test_what_can_be_written_is_written_while_a_call_hangs_above_a_disk_that_moves() -> None:
    machine = main_stack()
    machine.by_name("vda").busy = True
    kernel = shut_down(
        machine, "poweroff", "--budget=16", faults={("umount", "/oldroot/dev"): HANG}
    )
    assert ("remount", "/oldroot") in kernel.done
    assert kernel.lost == []
    assert keyless(machine)
    assert kernel.down_at <= 16


@pytest.mark.parametrize("seconds", [44.0, 50.0, 60.0])
def test_what_is_slow_may_take_the_time_that_is_left(seconds: float) -> None:
    machine = main_stack()
    machine.by_name("vda").busy = True
    kernel = shut_down(machine, faults={("umount", "/oldroot"): seconds})
    assert devices(machine) == {"vda", "vdb"}
    assert seconds < kernel.down_at < seconds + 10


@pytest.mark.parametrize("tenths", range(240, 270))
def test_whenever_a_call_that_was_left_behind_comes_back_it_is_gone_on_with(tenths: int) -> None:
    """Before others are settled, while they are, or after."""
    kernel = shut_down(main_stack(), faults={("umount", "/oldroot"): tenths / 10})
    assert "remaining 0" in "".join(kernel.said)


def test_what_has_come_back_is_noticed_though_no_time_is_left_to_wait() -> None:
    kernel = SimKernel(main_stack())
    closer = Closer(kernel, kernel.said.append)
    closer.left_behind["mount:10"] = kernel.start("umount", lambda: None)
    assert closer.hear_again(kernel.now())
    assert closer.left_behind == {}


def test_as_many_are_closed_at_once_as_is_asked_for() -> None:
    def seconds(width: int) -> float:
        machine = bare_machine()
        machine.devices["8:0"] = disk("vda", "8:0")
        machine.mounts += [Mount(10 + i, 1, f"/oldroot/{i}", "8:0") for i in range(24)]
        kernel = shut_down(machine, "poweroff", f"--width={width}", faults={"umount": 0.5})
        return float(kernel.down_at)

    one, four, all_at_once = seconds(1), seconds(4), seconds(24)
    assert 12 <= one < 14
    assert 3 <= four < 5
    assert 0.5 <= all_at_once < 2.5


@pytest.mark.parametrize("mounts", [1, 100])
def test_the_machine_is_scanned_once_a_round_however_much_is_closed(
    mounts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the beginning, and when all that can be closed is."""
    machine = main_stack()
    machine.mounts += [Mount(100 + i, 10, f"/oldroot/m{i}", ROOT) for i in range(mounts)]
    scans: list[object] = []

    def counted(*arguments: Any) -> Stack:
        scans.append(arguments)
        return scan(*arguments)

    monkeypatch.setattr(stage, "scan", counted)
    kernel = shut_down(machine)
    assert "remaining 0" in "".join(kernel.said)
    assert len(scans) == 2


def test_what_is_waited_for_is_said() -> None:
    said = "".join(shut_down(main_stack(), faults={("umount", "/oldroot"): 9.0}).said)
    assert "waiting for ext4 /: 2 MiB left to write, 2 s" in said
    assert "waiting for ext4 /: 2 MiB left to write, 7 s" in said


def test_what_is_too_slow_is_sealed() -> None:
    machine = main_stack()
    machine.by_name("vda").busy = True
    kernel = shut_down(machine, faults={("flush", CRYPT): 200.0})
    assert keyless(machine)
    assert kernel.down_at <= 90


def tower(*levels: str) -> Machine:
    """A bare machine with a dead disk that nothing takes away, and on it and on a healthy one a
    linear array; on that, one after the other, linear devices."""
    machine = bare_machine()
    machine.devices |= {"8:0": disk("vda", "8:0"), "8:1": disk("vdb", "8:1")}
    machine.devices["8:0"].dead = True
    machine.devices["253:0"] = Dm("dm-0", "253:0", ("8:1",), targets=(Target(0, 8, "linear"),))
    below = "9:0"
    machine.devices[below] = Md("md0", below, ("8:0", "253:0"), level="linear")
    for number, name in enumerate(levels, 1):
        device = f"253:{number}"
        machine.devices[device] = Dm(
            f"dm-{number}", device, (below,), title=name, targets=(Target(0, 8, "linear"),)
        )
        below = device
    machine.mounts.append(Mount(10, 1, "/oldroot", below))
    return machine


def test_below_all_that_hangs_what_can_be_written_is_written() -> None:
    """However high it is: a step that is left behind keeps nobody waiting who is to be settled."""
    machine = tower(*"abcdefghijkl")
    kernel = shut_down(machine)
    assert ("flush", "253:0") in kernel.done
    assert not machine.devices["253:0"].dirty
    assert not machine.devices["8:1"].dirty


def test_a_disk_below_what_was_sealed_gets_its_last_flush() -> None:
    machine = main_stack()
    machine.mounts[4].busy = True
    machine.the(Dm, CRYPT).suspended = machine.the(Dm, CRYPT).inactive_table = True
    stuck = OSError(errno.EIO, os.strerror(errno.EIO))
    kernel = shut_down(machine, faults={("dm_resume", CRYPT): 4.0, ("flush", ARRAY): stuck})
    sealed = kernel.done.index(("dm_message", CRYPT))
    assert {("flush", "254:0"), ("flush", "254:16")} <= set(kernel.done[sealed:])


def test_what_hangs_at_the_end_leaves_time_for_sysrq() -> None:
    machine = main_stack()
    machine.by_name("vda").busy = True
    machine.scrub_seconds = 1000.0  # it takes all the time that there is
    kernel = shut_down(machine, faults={"reboot": HANG, ("flush", CRYPT): 200.0})
    assert kernel.done[-1] == ("write", "/proc/sysrq-trigger")
    assert 80 < kernel.down_at <= 90


def test_a_signal_that_fails_does_not_end_the_freeing() -> None:
    machine = mirror("sdb")
    machine.the(Dm, CRYPT).targets = (Target(0, 2048, "linear"),)
    machine.processes[103] = Process(103, "stuck", immortal=True, ignores_term=True)
    kernel = shut_down(machine, faults={"kill": MemoryError()})
    assert kernel.lost == []
    assert "remaining 0" in "".join(kernel.said)


def test_a_dead_disk_below_the_mount_around_it_does_not_keep_a_device_suspended() -> None:
    machine = bare_machine()
    machine.devices |= {
        "8:0": disk("vda", "8:0"),
        "8:1": disk("vdb", "8:1"),
        "7:0": Loop("loop0", "7:0", backing="/media/in/a", lies_on="8:1"),
        CRYPT: Dm(
            "dm-0", CRYPT, ("7:0",), title="inner", targets=(Target(0, 8, "crypt"),), keyed=True
        ),
    }
    machine.devices["8:0"].dead = machine.the(Dm, CRYPT).suspended = True
    machine.mounts += [
        Mount(20, 1, "/media", "8:0"),
        Mount(21, 20, "/media/in", "8:1"),
        Mount(22, 1, "/srv", CRYPT),
    ]
    kernel = shut_down(machine)
    assert "crypt inner was suspended, and goes on" in "".join(kernel.said)
    assert kernel.lost == []


def test_what_is_mounted_out_of_sight_is_written_though_a_disk_hangs() -> None:
    machine = main_stack()
    machine.devices["8:0"] = disk("vdz", "8:0")
    machine.others.append(Unseen("8:0"))
    kernel = shut_down(machine, faults={("flush", "254:0"): HANG})
    assert not machine.others[0].unsaved()
    assert kernel.down == "poweroff"


def test_a_loop_device_that_stays_is_not_said_to_be_closed() -> None:
    machine = main_stack()
    machine.devices["7:0"] = Loop("loop0", "7:0", backing="/oldroot/a", lies_on=ROOT)
    machine.others.append(Frozen("7:0"))
    said = "".join(shut_down(machine).said)
    assert "closed loop loop0" not in said
    assert "remains loop loop0: " in said


def test_where_nobody_can_look_a_key_may_remain() -> None:
    kernel = shut_down(main_stack(), "reboot", faults={("listdir", "/sys/class/block"): HANG})
    said = "".join(kernel.said)
    assert "A KEY MAY REMAIN IN MEMORY: nobody could look which devices there are" in said
    assert "keys left 1" in said
    assert kernel.down_at <= 90
