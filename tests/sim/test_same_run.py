"""The same machine goes down the same way in another process too, where sets have another order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PRINT_RUNS = """
import random
from tests.sim.draw import faults_from, machine_from
from tests.sim.properties import shut_down
for number in range(40):
    dice = random.Random(number)
    machine = machine_from(lambda most: dice.randint(0, most))
    kernel = shut_down(machine, faults_from(lambda most: dice.randint(0, most), machine))
    print(number, kernel.said, kernel.done)
"""


def runs(seed: int) -> list[str]:
    """Return what forty machines say and do, in a process with its own order of sets."""
    environment = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PRINT_RUNS]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def test_the_same_run_whatever_the_order_of_sets() -> None:
    first, second = runs(1), runs(2)
    assert len(first) == 40
    assert [n for n in range(40) if first[n] != second[n]] == []
