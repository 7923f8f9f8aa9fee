"""Any stack, any fault: what `properties` asks for holds.

Always the same examples, in shards that can run side by side; with FINALSTAGE_EXAMPLES=N there are
N, and new ones each time. A failing one is shown as a drawing, and as a test to paste.
"""

from __future__ import annotations

import os
import pickle
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from finalstage import drawing
from tests.sim.draw import faults_from, machine_from, with_hooks
from tests.sim.machine import Machine
from tests.sim.paste import as_test
from tests.sim.properties import complaints, stack_of

EXAMPLES = int(os.environ.get("FINALSTAGE_EXAMPLES", "1500"))
NEW_ONES = "FINALSTAGE_EXAMPLES" in os.environ
SHARDS, HOOK_SHARDS = 20, 2


@cache
def up_to(most: int) -> st.SearchStrategy[int]:
    """Numbers from 0 to `most`."""
    return st.integers(0, most)


@st.composite
def machines(draw: st.DrawFn, hooks: bool = False) -> tuple[Machine, dict[Any, object]]:
    """A machine, and what fails on it; with `hooks` one on which we stand in for systemd-shutdown,
    and have programs to run in its place."""

    def number(most: int) -> int:
        return draw(up_to(most))

    machine = machine_from(number)
    machine = with_hooks(number, machine) if hooks else machine
    return machine, faults_from(number, machine)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_any_stack(shard: int) -> None:
    look_at(machines(), shard, EXAMPLES // SHARDS)


@pytest.mark.parametrize("shard", range(SHARDS, SHARDS + HOOK_SHARDS))
def test_any_stack_with_programs_of_system_shutdown(shard: int) -> None:
    look_at(machines(hooks=True), shard, EXAMPLES // SHARDS // 3)


def look_at(
    examples: st.SearchStrategy[tuple[Machine, dict[Any, object]]], shard: int, number: int
) -> None:
    """Take the machines of a shard down."""

    @seed(int.from_bytes(os.urandom(8)) if NEW_ONES else shard)
    @settings(
        max_examples=max(1, number),
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(examples)
    def check(example: tuple[Machine, dict[Any, object]]) -> None:
        saved = pickle.dumps(example)
        found = complaints(*example)
        if found:
            machine, faults = pickle.loads(saved)
            picture = drawing.draw(stack_of(machine))
            pytest.fail("\n".join((*found, "", picture, as_test(machine, faults))), pytrace=False)

    check()
