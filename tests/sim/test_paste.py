"""What a failing example prints can be pasted, and fails in the same way."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.sim.draw import faults_from, machine_from
from tests.sim.faults import HANG
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine
from tests.sim.paste import as_test
from tests.sim.properties import shut_down
from tests.sim.stacks import main_stack


def drawn(number: int) -> tuple[Machine, dict[Any, object]]:
    """Draw one machine out of many, and its faults."""
    dice = random.Random(number)
    machine = machine_from(lambda most: dice.randint(0, most))
    return machine, faults_from(lambda most: dice.randint(0, most), machine)


def pasted(source: str) -> dict[str, Any]:
    """Run a source, and return what it defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "pasted", "exec"), names)
    return names


@pytest.mark.parametrize("number", range(30))
def test_pasted_source_is_the_same_machine(number: int) -> None:
    machine, faults = drawn(number)
    again, same = pasted(as_test(machine, faults))["pasted"]()
    assert again == machine
    first, second = shut_down(machine, faults), shut_down(again, same)
    assert (first.said, first.done) == (second.said, second.done)
    assert first.struck == second.struck


def test_what_fails_fails_pasted_too() -> None:
    machine = main_stack()
    machine.mounts.append(Mount(50, 10, "/oldroot/a b\n", "254:0"))
    names = pasted(as_test(machine, {"reboot": HANG, ("write", "/proc/sysrq-trigger"): 100.0}))
    names["test_pasted"]()
    names["complaints"] = lambda *_: ["something"]
    with pytest.raises(AssertionError):
        names["test_pasted"]()
