"""`python -m tests.bench.planning MACHINE LAYERS`: what it costs to scan and plan so many layers.

Each measurement has a process of its own. As in the stage, cyclic garbage is not collected.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finalstage.plan import plan
from finalstage.scan import scan
from tests.bench import large
from tests.bench.large import Shelf
from tests.vm.cache import PROJECT

MACHINES: dict[str, Callable[[int], Shelf]] = {
    "storage server": large.storage_server,
    "container host": large.container_host,
    "chains, 10 deep": large.chain,
}
SIZES = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Cost:
    """Seconds to scan and to plan, and MiB of memory that both took at most."""

    layers: int
    steps: int
    scan: float
    plan: float
    mebibytes: float


def cost(machine: str, layers: int) -> Cost:
    """Measure one machine, in a process of its own."""
    command = (sys.executable, "-m", "tests.bench.planning", machine, str(layers))
    done = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE)
    return Cost(**json.loads(done.stdout))


def _here(machine: str, layers: int) -> Cost:
    """Measure it in this process."""
    gc.disable()
    shelf = MACHINES[machine](layers)
    before = _reset_peak()
    start = time.perf_counter()
    stack = scan(shelf)  # type: ignore[arg-type]  # the part of a Kernel that it uses
    middle = time.perf_counter()
    steps = plan(stack).steps
    end = time.perf_counter()
    if stack.problems:
        raise RuntimeError(f"{machine}: {stack.problems[0]}")
    mebibytes = (_status("VmHWM") - before) / 1024
    return Cost(len(stack.layers), len(steps), middle - start, end - middle, mebibytes)


def _reset_peak() -> int:
    """Forget the most memory that this process had, and return what it has, in KiB.

    Documentation/filesystems/proc.rst, /proc/PID/clear_refs.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(json.dumps(vars(_here(sys.argv[1], int(sys.argv[2])))))
