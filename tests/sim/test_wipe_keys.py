"""The panic button on the simulated kernel: no key stays, and root's is the last."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable

import pytest

from finalstage import wipe
from finalstage.kernel import Target
from finalstage.layers import dm
from finalstage.scan import scan
from finalstage.stage import KEY_LEFT, OLD_ROOT, OWN_MOUNTS
from tests.sim.draw import faults_from, machine_from
from tests.sim.kernel import SimKernel
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine
from tests.sim.stacks import disk, main_stack

CRYPT, HOME = "253:0", "253:5"
DRAWN = 200


def with_home() -> Machine:
    """The main stack, and beside it ext4 on LUKS on a disk of its own."""
    machine = main_stack()
    machine.devices |= {
        "8:0": disk("sda", "8:0"),
        HOME: Dm(
            "dm-5", HOME, ("8:0",), title="home", targets=(Target(0, 8, "crypt"),), keyed=True
        ),
    }
    machine.mounts.append(Mount(30, 10, "/oldroot/home", HOME))
    return machine


def pressed(machine: Machine, *words: str, faults: dict[object, object] | None = None) -> SimKernel:
    """Press the button, and see that the status and what the launcher is told agree with it."""
    kernel = SimKernel(machine, faults)
    status = wipe.run(kernel, list(words))
    if status == 0:
        assert "sealed" in kernel.told
    return kernel


def keyed(machine: Machine) -> list[Dm]:
    """Return the devices that have a key."""
    return [each for each in machine.devices.values() if isinstance(each, Dm) and each.has_key()]


def wiped(kernel: SimKernel) -> list[str]:
    """Return the devices that were told to wipe their key, in order."""
    return [device for operation, device in kernel.done if operation == "dm_message"]


def test_all_keys_go_and_the_system_waits_while_others_see_errors() -> None:
    machine = with_home()
    kernel = pressed(machine)
    assert wiped(kernel) == [HOME, CRYPT]
    assert machine.the(Dm, CRYPT).suspended and not machine.the(Dm, HOME).suspended
    assert [target.type for target in machine.the(Dm, HOME).targets] == ["error"]
    said = "".join(kernel.said)
    assert "wiped the key of crypt home: I/O on it fails from now on" in said
    assert "wiped the key of crypt cryptroot: I/O on it waits for ever from now on" in said
    assert "keys wiped 2, keys left 0" in said


def test_the_one_that_is_named_and_no_other() -> None:
    machine = with_home()
    kernel = pressed(machine, f"--devices={HOME}")
    assert keyed(machine) == [machine.devices[CRYPT]]
    assert not machine.the(Dm, CRYPT).suspended
    assert not [done for done in kernel.done if done[0] == "clear_keyrings"]


def test_nothing_is_frozen_or_written_before() -> None:
    kernel = pressed(with_home())
    before = kernel.done[: kernel.done.index(("dm_message", CRYPT))]
    assert not {"freeze", "sync", "syncfs", "flush", "remount"} & {done[0] for done in before}


@pytest.mark.parametrize("what", ["swap", "errors=panic"])
def test_what_must_not_see_errors_waits(what: str) -> None:
    machine = with_home()
    if what == "swap":
        machine.mounts.pop()
        machine.swaps = [Swap("/oldroot/dev/dm-5", HOME)]
    else:
        machine.mounts[-1].options = "errors=panic"
    pressed(machine)
    assert keyed(machine) == []
    assert machine.the(Dm, HOME).suspended


@pytest.mark.parametrize("words", [(), ("--poweroff",)])
def test_reboot_is_not_made_to_wait_for_an_array_above(words: tuple[str, ...]) -> None:
    """LUKS below RAID: md writes its superblocks on the way down."""
    machine = main_stack()
    machine.the(Dm, CRYPT).below = ("254:0",)
    machine.devices["9:0"] = Md("md0", "9:0", (CRYPT, "254:16"))
    machine.devices["253:1"].below = ("9:0",)
    pressed(machine, *words)
    assert keyed(machine) == []
    assert machine.the(Dm, CRYPT).suspended == (not words)


def test_what_cannot_be_wiped_is_said_and_the_launcher_not_told() -> None:
    refused = OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    faults: dict[object, object] = {"dm_message": refused, "dm_load_error": refused}
    kernel = SimKernel(with_home(), faults)
    assert wipe.run(kernel, []) == 1
    assert "sealed" not in kernel.told
    assert f"{KEY_LEFT}: crypt cryptroot" in "".join(kernel.said)


def test_a_machine_that_cannot_be_seen_is_left_to_the_launcher() -> None:
    refused = OSError(errno.EIO, os.strerror(errno.EIO))
    kernel = SimKernel(with_home(), {("listdir", "/sys/class/block"): refused})
    assert wipe.run(kernel, []) == 1
    assert "sealed" not in kernel.told


def test_a_device_that_is_not_there_is_said() -> None:
    kernel = SimKernel(with_home())
    assert wipe.run(kernel, ["--devices=253:9"]) == 1
    assert "cannot wipe the key of 253:9: no such encrypted device" in "".join(kernel.said)


class Clocked(SimKernel):
    """Notes when a device is told to wipe its key."""

    def dm_message(self, device: str, sector: int, message: str) -> None:
        self.at = self.now()
        super().dm_message(device, sector, message)


def test_a_disk_that_answers_nothing_costs_root_no_second_with_its_key() -> None:
    machine = with_home()
    machine.devices["8:0"] = disk("vdz", "8:0")  # of a kind that cannot be given up
    machine.devices["8:0"].dead = True
    kernel = Clocked(machine)
    assert wipe.run(kernel, []) == 1
    assert keyed(machine) == [machine.devices[HOME]]
    assert kernel.at < 1


@pytest.mark.parametrize("shard", range(4))
def test_any_machine_keeps_no_key_unsaid(shard: int) -> None:
    """Drawn as those that are taken down, with the same faults."""
    for number in range(shard, DRAWN, 4):
        draw = drawer(number)
        machine = machine_from(draw)
        faults = faults_from(draw, machine)
        if number % 2:
            faults = {}
        look_at(machine, faults, f"machine {number}")


def drawer(seed: int) -> Callable[[int], int]:
    """Return what draws a number from 0 to some other one."""
    drawn = random.Random(seed)
    return lambda most: drawn.randint(0, most)


def look_at(machine: Machine, faults: dict[object, object], which: str) -> None:
    """See that no key stays that is not named, and of a machine without faults that root's goes
    last."""
    stack = scan(SimKernel(machine), OWN_MOUNTS, OLD_ROOT)
    others, system = wipe.groups_of(stack, frozenset())
    devices = {x.id: x.device for x in stack.layers if isinstance(x, dm.Dm)}
    kernel = SimKernel(machine, faults)
    status = wipe.run(kernel, [])
    said = "".join(kernel.said)
    left = keyed(machine)
    if left:
        assert status == 1, which
        assert KEY_LEFT in said or "cannot wipe keys" in said, which
        assert "sealed" not in kernel.told, which
    elif not faults and "does not answer" not in said:
        order = wiped(kernel)
        first = min((order.index(devices[x]) for x in system if devices[x] in order), default=0)
        assert not {devices[x] for x in others} & set(order[first:]) or not system, which
