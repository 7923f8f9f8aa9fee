"""What must be true of every machine that goes down, whatever it is made of and whatever fails.

What a fault itself makes impossible is not asked for; `Excuses` says what that is.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from finalstage import moments, stage
from finalstage.handover.options import Options
from finalstage.plan import plan
from finalstage.scan import scan
from finalstage.stack import Layer, Stack, circles, covering
from finalstage.stage import KEY_LEFT, OLD_ROOT, run
from tests.sim.builder import OWN_MOUNTS
from tests.sim.draw import ON_MOUNTS
from tests.sim.kernel import Lost, SimKernel
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.mount import Mount, Unseen
from tests.sim.kinds.swap import Swap
from tests.sim.lacking import Lack
from tests.sim.machine import Device, Machine, Thing

BUDGET = 90
SOON = 12
"""Seconds until a machine is down on which nothing is in the way: two rounds of signals are in
them."""

HOOKS_SECONDS = BUDGET * 6 / 16
"""Until what is run for systemd-shutdown is made to end."""

MOMENT_SECONDS = Options().hooks_timeout
"""Until a program of the administrator's is made to end."""

BLIND = (
    "cannot scan the machine",
    "cannot look for",
    "cannot list the block devices",
    "cannot read the mounts",
)
"""Said where the stage cannot see what there is: then it cannot close it either."""


def shut_down(
    machine: Machine, faults: Mapping[Any, object] | None = None, lacks: Sequence[Lack] = ()
) -> SimKernel:
    """Run the stage on a machine to its end."""
    kernel = SimKernel(machine, faults, lacks)
    environment = {
        "FINALSTAGE_PID1": "no" if machine.foreign_init else "yes",
        "FINALSTAGE_STANDS_IN": "yes" if machine.hooks else "no",
    }
    run(kernel, ["poweroff", f"--budget={BUDGET}"], environment)
    return kernel


def stack_of(machine: Machine) -> Stack:
    """Return the stack as the stage sees it where nothing fails."""
    return scan(SimKernel(machine), stage.OWN_MOUNTS, OLD_ROOT)


def complaints(
    machine: Machine, faults: Mapping[Any, object], lacks: Sequence[Lack] = ()
) -> list[str]:
    """Take a machine down, twice, and return what was not as it must be. Of what the kernel lacks
    only that is an excuse which costs something.

    Where layers stand on one another in a circle no order is right; what that costs is tested in
    test_circle.
    """
    before = stack_of(machine)
    found = wrong_rounds(before)
    saved = pickle.dumps(machine)
    excuses = Excuses(pickle.loads(saved))
    costly = [lack for lack in lacks if lack.costs]
    whole = excuses.healthy and not faults and not costly
    kernel = shut_down(machine, faults, lacks)
    excuses.hear(kernel, kernel.missed if costly else [])
    found += wrong_order(kernel, excuses, before)
    found += wrong_words(kernel, excuses, before)
    found += keys_left(kernel, excuses)
    found += keyrings_left(kernel)
    if not circles(before):
        found += data_lost(kernel, excuses)
    found += not_down(kernel)
    found += wrong_hooks(kernel, before, whole)
    if whole:
        found += not_whole(kernel)
    if kernel.missed:
        found += not_said(kernel, costly)
        found += blind_without(kernel) if not costly and not faults else []
    again = shut_down(pickle.loads(saved), faults, lacks)
    if (again.said, again.done, again.records) != (kernel.said, kernel.done, kernel.records):
        found.append("the same machine does not go down the same way")
    return found


def wrong_rounds(stack: Stack) -> list[str]:
    """The plan is the shortest: as many rounds as the longest chain of what is closed in it."""
    if len(stack.depths) < len(stack.layers):
        return []  # something stands on itself
    steps = plan(stack)
    in_plan = {step.layer.id for step in steps.steps}
    above: dict[str, list[Layer]] = {}
    for layer in stack.layers:
        for lower in layer.below:
            above.setdefault(lower, []).append(layer)
    longest: dict[str, int] = {}

    def chain(layer: Layer) -> int:
        if layer.id not in longest:
            longest[layer.id] = 1 + max(map(chain, above.get(layer.id, ())), default=0)
        return longest[layer.id]

    depth = max((chain(layer) for layer in stack.layers if layer.id in in_plan), default=0)
    rounds = steps.rounds()
    found = [] if len(rounds) == depth else [f"{len(rounds)} rounds for a depth of {depth}"]
    closing = {layer.id for layer in stack.closing}
    return found + [f"{id} is not in the plan" for id in sorted(closing - in_plan)]


def wrong_order(kernel: SimKernel, excuses: Excuses, before: Stack) -> list[str]:
    """Nothing is closed before its holders, no disk that answers is taken away. What is not known
    to be a snapshot, or to be there, may go in another order than its origin; and a monitor cannot
    stay until nothing writes to the array which it keeps, if it runs from that, or a file system
    would not be closed."""
    struck = {operation for operation, _ in kernel.struck}
    unknown = "dm_status" in struck or excuses.blind or bool(excuses.hidden)
    early = runs_from_its_array(before) or unknown or not struck.isdisjoint(ON_MOUNTS)
    forgiven = ("removed ",) * unknown + ("ended the monitor ",) * early
    found = [what for what in kernel.violations if not what.startswith(forgiven)]
    return [what for what in found if what not in snapshots_on_their_origin(before)]


def snapshots_on_their_origin(before: Stack) -> set[str]:
    """Return the violations of which there is no way around: a snapshot whose store lies, or may
    lie, in a file on a file system that stands on its origin has to go first."""
    layers = before.by_id
    may_lie = before.but(
        layers=tuple(
            layer.but(below=layer.below + layer.leans_on) if layer.kind == "loop" else layer
            for layer in before.layers
        )
    )
    return {
        f"removed {layer.name} before {layers[id].name}"
        for layer in before.layers
        if layer.type == "snapshot"
        for id in covering(may_lie, (layer.id,))
        if layers[id].type == "snapshot-origin"
    }


def runs_from_its_array(stack: Stack) -> bool:
    """Whether a monitor lies on what has to go before it: one of the arrays that lean on it."""
    arrays = {layer.id for layer in stack.layers if layer.kind == "md" and layer.leans_on}
    monitors = [layer.id for layer in stack.layers if layer.kind == "monitor"]
    return not arrays.isdisjoint(covering(stack, monitors))


def wrong_words(kernel: SimKernel, excuses: Excuses, before: Stack) -> list[str]:
    """What is said to be closed does not remain, as far as that can be seen."""
    if excuses.blind or excuses.hidden:
        return []
    words = [line.split("] ", 1)[1] for line in kernel.said]
    closed = Counter(
        line[7:].rsplit(None, 2)[0].rstrip() for line in words if line.startswith("closed ")
    )
    remains = Counter(line[8:].split(": ")[0] for line in words if line.startswith("remains "))
    there = Counter(layer.title for layer in before.layers)
    return [
        f"{title} is said to be closed, and remains"
        for title, times in remains.items()
        if title in there and min(closed[title], there[title]) + times > there[title]
    ]


def keys_left(kernel: SimKernel, excuses: Excuses) -> list[str]:
    """No key remains, or where a fault has made that impossible, it is said."""
    said = [line for line in kernel.said if KEY_LEFT in line]
    found = []
    for device in kernel.machine.devices.values():
        if device.has_key():
            title = device.label if device.label.isprintable() else ascii(device.label)[1:-1]
            # One that would not tell what it is goes by the kernel's name.
            named = any(f" {name}: " in line for line in said for name in (title, device.name))
            if not named and not excuses.unseen(device):
                found.append(f"a key is left in {device.label}, and it is not said")
            if not excuses.key(device):
                found.append(f"a key is left in {device.label}, and nothing was in the way")
    return found


def keyrings_left(kernel: SimKernel) -> list[str]:
    """All keyrings are cleared, and what something in the kernel still holds is named; or it is
    said that this could not be done, or seen."""
    keys = (*kernel.machine.keyrings.values(), kernel.machine.pinned_keys)
    said = "".join(kernel.said)
    if not any(keys) or "cannot see whether keys remain" in said:
        return []
    struck = "clear_keyrings" in {operation for operation, _ in kernel.struck}
    found = [f"the keyring of user {uid} is left" for uid in kernel.machine.keyrings if not struck]
    return found + [
        f"a key is left in a keyring, and it is not said: {key}"
        for key in kernel.machine.pinned_keys
        if f"{KEY_LEFT}: {' '.join(key.split())}" not in said
    ]


def not_said(kernel: SimKernel, lacks: Sequence[Lack]) -> list[str]:
    """What it costs that the kernel lacks something stands in the report."""
    return [
        f"without {lack.name}: nothing is said of it"
        for lack in lacks
        if not any(words in line for line in kernel.said for words in lack.said)
    ]


def blind_without(kernel: SimKernel) -> list[str]:
    """Nothing is hidden from the stage by what costs nothing to be without."""
    return [line for line in kernel.said if any(words in line for words in BLIND)]


def data_lost(kernel: SimKernel, excuses: Excuses) -> list[str]:
    """Nothing that could still be written is lost: neither what was closed, wiped or failed before
    it was flushed, nor what is still in a cache when power goes."""
    machine = kernel.machine
    lost = kernel.lost + [
        Lost(thing.key, f"{thing.label}: not written when power goes")
        for thing in machine.things()
        if thing.unsaved()
    ]
    return [why for key, why in lost if not excuses.data(key)]


def wrong_hooks(kernel: SimKernel, before: Stack, whole: bool) -> list[str]:
    """Those of each moment are run once at most, and where nothing was in the way at each in its
    order. The programs for systemd-shutdown are run once at most, and where nothing was in the way
    when all was closed but root, and what that stands or leans on."""
    runs = kernel.hook_runs
    at = [run.moment for run in kernel.moment_runs]
    if len(set(at)) < len(at):
        return [f"a moment's programs were run twice: {at}"]
    if whole and at != [moment for moment in moments.ALL if moment in kernel.machine.moments]:
        return [f"programs were run at {at}"]
    if not whole or not kernel.machine.hooks:
        return ["hooks were run twice"] if len(runs) > 1 else []
    root = next(layer.id for layer in before.layers if layer.name == "/" and layer.closes)
    below = covering(before, (root,))
    names = {layer.name for layer in before.layers if layer.id in below} | {"/run"}
    found = [f"hooks were run {len(runs)} times"] if len(runs) != 1 else []
    for each in runs:
        there = [target.removeprefix("/oldroot") or "/" for target in each.mounts + each.swaps]
        early = [name for name in there if name not in names]
        if early or not each.root_readonly:
            found.append(f"hooks were run too early, beside {early}: {each}")
    return found


def not_down(kernel: SimKernel) -> list[str]:
    """The machine is down, within its time, in the way that was asked for."""
    struck = {operation for operation, _ in kernel.struck}
    if "reboot" in struck and ("write", "/proc/sysrq-trigger") in kernel.struck:
        return []
    if kernel.stuck:
        return [f"the stage waits without a bound, for {kernel.stuck}"]
    if not kernel.down:
        return ["the machine is not down"]
    found = []
    if kernel.down != "poweroff" and "reboot" not in struck:
        found.append(f"the machine went down by {kernel.down}")
    if kernel.down_at > BUDGET:
        found.append(f"the machine was down after {kernel.down_at:.1f} s")
    return found


def not_whole(kernel: SimKernel) -> list[str]:
    """Where nothing was in the way, all is closed, and soon."""
    machine = kernel.machine
    found = [f"{mount.target} remains" for mount in machine.mounts[OWN_MOUNTS:]]
    found += [f"{swap.path} remains" for swap in machine.swaps]
    found += [f"{device.label} remains" for device in machine.devices.values() if device.closes()]
    found += [f"{thing.label} remains" for thing in machine.others]
    if "remaining 0, keys left 0" not in "".join(kernel.said):
        found.append("it is not said that nothing remains")
    slow = HOOKS_SECONDS if machine.hook_seconds > HOOKS_SECONDS else 0.0
    for programs in machine.moments.values():
        slow += sum(min(seconds, MOMENT_SECONDS) for seconds in programs.values())
    if kernel.down_at > SOON + slow:
        found.append(f"nothing was in the way, and it took {kernel.down_at:.1f} s")
    return found


class Excuses:
    """What the state of a machine, or a fault, makes impossible.

    `ill` is what cannot be written even where the kernel's ways are used to have I/O end; `cured`
    are the devices that need these. A `healthy` machine has neither, and nobody who stays.
    """

    def __init__(self, machine: Machine) -> None:
        """Look at a machine before it goes down; it is not the same afterwards."""
        self.names: dict[str, set[str]] = {}
        self.paths: dict[str, set[str]] = {}
        self.ill: set[str] = set()
        self.healthy = not (
            any(not thing.closable for thing in machine.others)
            or any(process.immortal for process in machine.processes.values())
            or any(mount.busy or mount.silent for mount in machine.mounts)
        )
        self.cured: set[str] = set()
        waiting = [
            device
            for device in machine.devices.values()
            if device.waits() or device.will_wait(machine)
        ]
        # What has a key stays ready to lose it where anything below answers nothing: unblock.py.
        ready = [
            device
            for device in waiting
            if isinstance(device, Dm)
            and device.may_have_key()
            and any(lower.dead for lower in machine.paths(device))
        ]
        for device in waiting:
            self.cured.add(device.key)
            if device not in ready:
                device.cure()
        for thing in machine.things():
            paths = machine.paths(thing)
            self.paths[thing.key] = {device.key for device in paths} | {thing.key}
            self.names[thing.key] = names(machine, thing)
            if is_ill(machine, thing, paths):
                self.ill.add(thing.key)
        store = (thing for thing in machine.things() if machine.paths(thing))
        self.healthy = self.healthy and not (
            self.cured or any(thing.key in self.ill for thing in store)
        )
        self.struck: set[str] = set()
        self.hidden: set[str] = set()
        self.blind = False

    def hear(self, kernel: SimKernel, missed: Sequence[tuple[str, str]] = ()) -> None:
        """Take in which faults were met, and which calls `missed` something that they needed."""
        said = "".join(kernel.said)
        self.blind = any(words in said for words in BLIND)
        calls = [*kernel.struck, *missed]
        met = {word for call in calls for word in call}
        parts = {part for _, name in calls for part in name.split("/")}
        for key, own in self.names.items():
            if own & met or own & parts:
                self.struck |= self.paths[key] if key.startswith("swap:") else {key}
            if any(f"cannot read block device {name}:" in said for name in own):
                self.hidden |= self.paths[key]

    def unseen(self, device: Device) -> bool:
        """Whether the stage could not see a device, and has said so."""
        return self.blind or device.key in self.hidden

    def key(self, device: Device) -> bool:
        """Whether a device may keep its key, if that is said."""
        path = self.paths.get(device.key, {device.key})
        return self.blind or bool(path & (self.ill | self.struck))

    def data(self, key: str) -> bool:
        """Whether a thing may lose what is in it."""
        untreated = self.paths.get(key, set()) & self.cured & self.struck
        return self.blind or bool(untreated) or key in self.ill | self.struck | self.hidden


def names(machine: Machine, thing: Thing) -> set[str]:
    """Return the names that calls use for a thing; where no path leads, only sync(2) writes."""
    if isinstance(thing, Device):
        return {thing.device, thing.name}
    if isinstance(thing, Mount):
        hidden = machine.resolve(thing.target) is not thing
        return {thing.target, "sync"} if hidden else {thing.target}
    if isinstance(thing, Unseen):
        return {"sync"}
    return {thing.path} if isinstance(thing, Swap) else set()


def is_ill(machine: Machine, thing: Thing, paths: list[Device]) -> bool:
    """Whether I/O of a thing goes nowhere, does not get through, or never ends, in a circle."""
    own = thing.key if isinstance(thing, Device) else ""
    circles = any(
        device.key in {d.key for low in device.rests_on(machine) for d in machine.reaches(low)}
        for device in paths
    )
    return (
        not paths
        or circles
        or (isinstance(thing, Device) and not thing.opens())
        or (isinstance(thing, Mount) and thing.silent)
        or any(device.waits() for device in paths)
        or any(machine.fails(device) for device in ([own] if own else thing.rests_on(machine)))
    )
