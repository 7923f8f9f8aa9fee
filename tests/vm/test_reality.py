"""The simulated kernel answers as the real one does, call by call, and shows the same then."""

from __future__ import annotations

import ast
import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from finalstage import kernel, layers
from finalstage.scan import scan
from finalstage.stack import Layer, Stack
from finalstage.value import Value
from tests.inside.act import Actor
from tests.sim.kernel import SimKernel
from tests.sim.mirror import SimHolder, machine_like
from tests.sim.scenarios import SCENARIOS, Scenario
from tests.vm import python, stacks
from tests.vm.cache import BUILD
from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import Ext4, Modules
from tests.vm.standing import Tray, saved, standing
from tests.vm.states import INITRAMFS
from tests.vm.tools import tool
from tests.vm.turns import Turn

PROGRAM = "tests.inside.act"


class Tools(Modules):
    """Modules, and the programs that go with them."""

    programs: ClassVar[tuple[str, ...]] = ("sbin/mdmon", "sbin/mkfs.btrfs", "usr/sbin/make-bcache")


MODULES = (
    "bcache", "btrfs", "dm-cache-smq", "dm-era", "dm-multipath", "dm-round-robin", "dm-snapshot",
    "dm-thin-pool", "dm-writecache", "loop", "nbd", "overlay", "raid1", "raid456", "scsi_debug",
    "zram",
)  # fmt: skip
# The programs that build things are on the initramfs, so that stays the root.
BENCH = stacks.Stack(
    "bench",
    Hardware((Disk("a", 64), *(Disk(name, 16) for name in "bcd"), Disk("e", 128), Disk("f", 128))),
    (Ext4("disk/a", "/"), Tools(MODULES)),
    root=INITRAMFS,
    files=(),
)
# Whatever `repr` writes of a layer.
NAMES: dict[str, Any] = {
    name: thing
    for module in (kernel, *layers.KINDS)
    for name, thing in vars(module).items()
    if isinstance(thing, type) and issubclass(thing, Value)
}


@dataclass
class Played:
    """How a scenario went on the real kernel: outcomes, and what scan saw before and after."""

    outcomes: list[tuple[str, str]] = field(default_factory=list)
    start: list[Layer] = field(default_factory=list)
    end: list[Layer] = field(default_factory=list)


def played(said: str) -> dict[str, Played]:
    """Return how each scenario went, from what the guest has said."""
    found: dict[str, Played] = {}
    name = ""
    for line in said.splitlines():
        match ast.literal_eval(line):
            case "scenario", name:
                found[name] = Played()
            case "line", call, outcome:
                found[name].outcomes.append((call, outcome))
            case ("start" | "end") as when, text:
                layer = eval(text, {"__builtins__": {}}, NAMES)
                getattr(found[name], when).append(layer)
            case problem:
                raise ValueError(f"{name}: {problem}")
    return found


async def play() -> str:
    """Have all scenarios acted out in one guest."""
    tray = Tray({"python": python.folder(PROGRAM)}, {"trouble": tool("trouble")})
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        async with Turn():
            state = await saved(BENCH)
            async with standing(BENCH, state, tray, Path(folder)) as started:
                await started.machine.run("rmmod loop; modprobe loop max_part=4")
                await started.machine.run("cp /run/tray/trouble /run; chmod 755 /run/trouble")
                command = python.command("/run/tray/python", PROGRAM)
                return await started.machine.run(command, deadline=300)


def seen(stack: Stack) -> list[str]:
    """Return all layers, and what each stands on, as people call them."""
    by_id = stack.by_id
    below = {
        layer.title: sorted(by_id[lower].title for lower in layer.below if lower in by_id)
        for layer in stack.layers
    }
    return sorted(f"{title} on {', '.join(lower)}" for title, lower in below.items())


def differences(scenario: Scenario, real: Played) -> list[str]:
    """Act out a scenario on the simulated kernel, beginning with what scan saw on the real one, and
    return where one of them is not as the scenario says, or they end in different ways."""
    sim = SimKernel(machine_like(Stack(tuple(real.start))))
    actor = Actor(sim, SimHolder(sim.machine))
    found = []
    for (call, outcome), (_, truth) in zip(scenario.lines, real.outcomes, strict=True):
        answer = actor.act(call)
        if not outcome == truth == answer:
            found.append(
                f"{call}: {outcome} it says,"
                f" {truth} on the real kernel, {answer} on the simulated one"
            )
    ends = {"real": Stack(tuple(real.end)), "simulated": scan(sim)}
    for here, there in (("real", "simulated"), ("simulated", "real")):
        more = set(seen(ends[here])) - set(seen(ends[there]))
        found += [f"at the end there is only on the {here} one: {layer}" for layer in sorted(more)]
    return [f"{scenario.name}: {difference}" for difference in found]


def test_the_simulated_kernel_is_like_the_real_one() -> None:
    real = played(asyncio.run(play()))
    found = [line for each in SCENARIOS for line in differences(each, real[each.name])]
    assert not found, "\n".join(found)
