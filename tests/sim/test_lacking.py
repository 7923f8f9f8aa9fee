"""Kernels that lack something: what `properties` asks for holds there too, on any machine.

As if nothing was lacking, where that costs nothing; else the report says what could not be done.
"""

from __future__ import annotations

import pickle
import random
import re
from dataclasses import replace
from functools import cache, partial

import pytest

from finalstage import drawing
from finalstage.efi import ATTRIBUTES, VARIABLES
from finalstage.mor import NAME, REQUEST
from tests.sim.draw import machine_from
from tests.sim.kernel import SimKernel
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.nvme import Nvme
from tests.sim.lacking import LACKS, Lack
from tests.sim.machine import Machine, Process
from tests.sim.paste import as_test
from tests.sim.properties import complaints, shut_down, stack_of
from tests.sim.stacks import main_stack

DRAWN = 60
ENOUGH = 10
"""Machines on which something is asked for in vain."""


@cache
def machines() -> tuple[bytes, ...]:
    """Machines of all kinds, in good states and in bad ones: the main one first."""
    found = [main_stack(), with_secrets(), with_a_busy_root(suspended=False)]
    found += [with_a_busy_root(suspended=True)]
    for seed in range(DRAWN):
        found.append(machine_from(partial(random.Random(seed).randint, 0)))
    return tuple(map(pickle.dumps, found))


def with_secrets() -> Machine:
    """The main machine, with all that has keys besides devices."""
    machine = main_stack()
    machine.keyrings = {0: ("user cryptsetup",), 1000: ("user login", "logon fscrypt:x")}
    machine.pinned_keys = ("logon     cryptsetup:1234-d0",)
    machine.files = {"/oldroot/run/cryptsetup-keys.d/root.key": "0:33"}
    machine.efi = {f"{VARIABLES}/{NAME}": ATTRIBUTES + bytes(len(REQUEST))}
    return machine


def with_a_busy_root(suspended: bool) -> Machine:
    """The main machine, whose root nobody can unmount; with another table for its encrypted device,
    or with that suspended, which somebody was just about to do."""
    machine = main_stack()
    machine.processes[100] = Process(100, immortal=True, holds=("253:1",))
    root = next(mount for mount in machine.mounts if mount.target == "/oldroot")
    root.busy = True
    crypt = machine.the(Dm, "253:0")
    crypt.inactive_table, crypt.suspended = not suspended, suspended
    return machine


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: lack.name)
def test_it_does_without(lack: Lack) -> None:
    asked = 0
    for saved in machines():
        machine = pickle.loads(saved)
        if not lack.fits(machine):
            continue
        lack.prepare(machine)
        before = pickle.dumps(machine)
        if not shut_down(machine, {}, (lack,)).missed:
            continue
        asked += 1
        if found := complaints(pickle.loads(before), {}, (lack,)):
            machine = pickle.loads(before)
            picture = drawing.draw(stack_of(machine))
            pytest.fail("\n".join((*found, "", picture, as_test(machine, {}))), pytrace=False)
        if asked == ENOUGH:
            break
    assert asked  # else nothing was seen here


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: lack.name)
def test_the_report_says_so_and_nothing_else(lack: Lack) -> None:
    with_it, without = with_secrets(), with_secrets()
    for machine in (with_it, without):
        lack.prepare(machine)
    before = words(shut_down(with_it))
    kernel = shut_down(without, {}, (lack,))
    more = [line for line in words(kernel) if line not in before]
    if kernel.missed:
        unsaid = [each for each in lack.said if not any(each in line for line in more)]
        assert unsaid == []
    if not lack.costs:
        assert [line for line in more if not any(each in line for each in lack.said)] == []


def words(kernel: SimKernel) -> list[str]:
    """What the console said, without times."""
    return [re.sub(r"[0-9.]+ s$", "", line[line.index("]") :].strip()) for line in kernel.said]


@pytest.mark.parametrize("lack", [each for each in LACKS if each.costs], ids=lambda each: each.name)
def test_what_it_costs_is_noticed(lack: Lack) -> None:
    """The control: were it said to cost nothing, machines would not be as they must be."""
    found: list[str] = []
    for saved in machines():
        machine = pickle.loads(saved)
        if lack.fits(machine) and not found:
            lack.prepare(machine)
            found = complaints(machine, {}, (replace(lack, costs=False),))
    assert found


def test_what_is_lacking_is_not_seen_in_its_directory() -> None:
    (old,) = [lack for lack in LACKS if lack.name == "transport of NVMe"]
    machine = Machine(devices={"259:1": Nvme("nvme0n1", "259:1")})
    place = "/sys/dev/block/259:1/device"
    assert "transport" in SimKernel(machine).listdir(place)
    assert "transport" not in SimKernel(machine, lacks=(old,)).listdir(place)
