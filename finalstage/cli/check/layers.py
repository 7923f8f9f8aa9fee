"""Which layers of this machine finalstage knows, which it cannot close, and what will remain."""

from __future__ import annotations

from collections.abc import Iterator

from finalstage import holders
from finalstage.cli.check import callers
from finalstage.cli.check.readiness import (
    OK,
    PROBLEM,
    ROOT_SEES_MORE,
    UNKNOWN,
    WARNING,
    Finding,
    Machine,
    some,
)
from finalstage.cli.config import PLACE
from finalstage.kernel import Kernel
from finalstage.layers.dm import UNREAD, WITHOUT_MESSAGE, Dm
from finalstage.layers.mount import Mount
from finalstage.stack import Layer, circles, covering
from finalstage.world import BLOCKS, swaps, text

NO_MESSAGE = WITHOUT_MESSAGE - {UNREAD}

BEFORE = {
    "drbd": "have its service run drbdadm down when the machine goes down",
    "zpool": "have a service run zpool export when the machine goes down",
}
"""What to do about layers that finalstage cannot close, by their types."""

KIB = 1 << 10


def look(machine: Machine) -> Iterator[Finding]:
    """Look at all of them."""
    stack = machine.stack
    yield from _unreadable(machine)
    found = [
        *_unclosable(stack.layers),
        *_unknown_drivers(machine),
        *_served(machine.kernel),
        *_by_daemons(stack.layers),
        *_circles(machine),
    ]
    yield from found
    if not found and not stack.blind:
        kinds = sorted({layer.kind for layer in stack.layers if layer.shown and layer.closes})
        count = sum(layer.shown for layer in stack.closing)
        yield Finding("layers", OK, f"all {count} are of kinds that it closes: {', '.join(kinds)}")
    yield from _remaining(machine)
    yield from _keys(machine)
    yield from _swap(machine.kernel)


def _unreadable(machine: Machine) -> Iterator[Finding]:
    """What could not be read, for whoever is not root most of the device mapper."""
    problems = machine.stack.problems
    if not problems:
        return
    if machine.as_root:
        verdict = PROBLEM if machine.stack.blind else WARNING
        yield Finding("layers", verdict, some(problems), "see the kernel's log: dmesg")
    else:
        yield Finding("layers", UNKNOWN, some(problems), ROOT_SEES_MORE)


def _unclosable(layers: tuple[Layer, ...]) -> Iterator[Finding]:
    for layer in layers:
        if layer.type in BEFORE:
            found = f"{layer.title} will stay, and all that it stands on: no stable way to close it"
            yield Finding("layers", WARNING, found, BEFORE[layer.type])


def _unknown_drivers(machine: Machine) -> Iterator[Finding]:
    """Devices that are no disks, that something stands on or that stand on something, and in which
    no kind sees its own."""
    above = machine.stack.above
    for layer in machine.stack.layers:
        is_used = bool(above[layer.id] or layer.below)
        if layer.kind == "disk" and is_used and _is_virtual(machine.kernel, layer.name):
            found = f"nobody knows the driver of {layer.name}: it is flushed, and not closed"
            remedy = "have its service take it down when the machine goes down"
            yield Finding("layers", WARNING, found, remedy)


def _is_virtual(kernel: Kernel, name: str) -> bool:
    """Whether a device is made of something else than hardware, and not of memory: brd."""
    try:
        link = kernel.readlink(f"{BLOCKS}/{name}")
    except OSError:
        return False
    return "/virtual/" in link and not name.startswith("ram")


def _served(kernel: Kernel) -> Iterator[Finding]:
    for name in holders.servers(kernel):
        found = f"{name} serves devices to other machines, and holds them where nobody sees it"
        remedy = "have its service clear it when the machine goes down"
        yield Finding("layers", WARNING, found, remedy)


def _by_daemons(layers: tuple[Layer, ...]) -> Iterator[Finding]:
    """File systems on block devices whose driver is a process, which init ends first."""
    for layer in layers:
        if layer.type == "fuseblk" and isinstance(layer, Mount) and layer.writable:
            found = f"{layer.title} is written by a process: it is clean only if init unmounts it"
            yield Finding("layers", WARNING, found, "mount it by the kernel's driver, or read-only")


def _circles(machine: Machine) -> Iterator[Finding]:
    for circle in circles(machine.stack):
        titles = " on ".join(layer.title for layer in (*circle, circle[0]))
        found = f"a circle, which can be closed in no order: {titles}"
        yield Finding("layers", WARNING, found, "move the loop device's file to another disk")


def _remaining(machine: Machine) -> Iterator[Finding]:
    """What PID 1 keeps where that is not finalstage."""
    name, stack = "read-only", machine.stack
    if not machine.init:
        return  # which is said elsewhere
    if not callers.is_child_of(machine.init):
        yield Finding(name, OK, "nothing has to remain mounted read-only")
        return
    root = [layer.id for layer in stack.layers if isinstance(layer, Mount) and layer.target == "/"]
    kept = covering(stack, root[-1:])
    titles = [layer.title for layer in stack.closing if layer.id in kept and layer.shown]
    found = f"{machine.init} keeps PID 1, so these remain, read-only, keys wiped: {some(titles)}"
    yield Finding(name, WARNING, found, "nothing, or an init that hands over PID 1: see README")


def _keys(machine: Machine) -> Iterator[Finding]:
    """Encrypted devices, and whether a key can be wiped without the device being closed."""
    devices = [layer for layer in machine.stack.layers if isinstance(layer, Dm)]
    keyed = [layer for layer in devices if layer.has_key and UNREAD not in layer.types]
    harder = [layer.title for layer in keyed if not NO_MESSAGE.isdisjoint(layer.types)]
    stays = machine.setup.configuration.options.key_left == "go-on"
    if harder and stays:
        found = f"no message wipes the key of {some(harder)}, if it has one: it goes with its table"
        remedy = f'key-left = "poweroff" in {PLACE}: memory without power forgets'
        yield Finding("keys", WARNING, found, remedy)
    elif keyed:
        yield Finding("keys", OK, f"{len(keyed)} encrypted devices, whose keys can be wiped")


def _swap(kernel: Kernel) -> Iterator[Finding]:
    """Whether there is memory for what is in swap; processes have ended by then."""
    used = sum(area.used for area in swaps(kernel, []))
    total = _total(kernel)
    if total and used > total:
        found = f"{used // KIB} MiB are in swap, and the machine has {total // KIB} MiB of memory"
        remedy = "end what has them, or empty tmpfs: what does not fit stays in use"
        yield Finding("swap", WARNING, found, remedy)


def _total(kernel: Kernel) -> int:
    """Return the memory of the machine in KiB."""
    try:
        lines = text(kernel, "/proc/meminfo").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("MemTotal:")), 0)
