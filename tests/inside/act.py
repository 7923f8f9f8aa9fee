"""Goes through scenarios (tests.sim.scenarios) call by call, and says what came of each call.

The same code drives the real kernel in a guest and the simulated one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import errorcode

from finalstage.kernel import Call, Kernel
from finalstage.kernel.linux import LinuxKernel
from finalstage.scan import scan
from finalstage.stack import Stack
from tests.sim.scenarios import PRELUDE, SCENARIOS, Scenario

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.sim.mirror import SimHolder

PATIENCE, LITTLE_PATIENCE = 3.0, 1.0
"""Seconds after which a call hangs, and after which one does that is to: others take a tenth of
that."""

SAID = "/run/said"
REST, TICK = 0.3, 0.05
"""Seconds for what goes by itself, and how often to look where it takes its time."""


class Holder:
    """A process that holds things, as others than finalstage do: here this one."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}

    def open(self, name: str, path: str, writing: bool) -> None:
        """Open a file by its path, or a block device by its number."""
        flags = os.O_RDWR | os.O_CREAT if writing else os.O_RDONLY
        if not path.startswith("/"):
            node = f"/dev/held-{path}"
            major, _, minor = path.partition(":")
            os.mknod(node, 0o60600, os.makedev(int(major), int(minor)))
            self.files[name] = os.open(node, flags)
            os.unlink(node)
        else:
            self.files[name] = os.open(path, flags, 0o600)

    def write(self, name: str) -> None:
        """Write something to a file, and do not sync it."""
        os.write(self.files[name], bytes(100_000))

    def close(self, name: str) -> None:
        """Close it again."""
        os.close(self.files.pop(name))

    def enter(self, path: str) -> None:
        """Make it the working directory."""
        os.chdir(path)

    def defer(self, device: str) -> None:
        """Mark a dm device for being removed when it is closed."""
        major, _, minor = device.partition(":")
        shell(f"dmsetup remove --deferred -j {major} -m {minor}")

    def silence(self, device: str) -> None:
        """Have the server of a network block device answer nothing any more."""
        shell(f"kill -STOP $(cat /run/server-{device})")


class Actor:
    """Acts out one scenario. Devices keep the numbers that they had at the start."""

    def __init__(self, kernel: Kernel, holder: Holder | SimHolder) -> None:
        self.kernel = kernel
        self.holder = holder
        self.start = scan(kernel)
        self.numbers = {
            layer.name: layer.device
            for layer in self.start.layers
            if layer.device and layer.kind != "mount"
        }
        self.waiting: dict[str, Call] = {}

    def act(self, line: str, patience: float = PATIENCE) -> str:
        """Do what a line says, and return what came of it, by then."""
        if line == "hear":
            return self.hear()
        words = line.split(" ")
        for index, word in enumerate(words):
            start, at, end = word.partition("@")
            if at:
                name, slash, rest = end.partition("/")
                words[index] = f"{start}{self.numbers[name]}{slash}{rest}"
        if words[0] == "open":
            words[2] = self.numbers.get(words[2], words[2])
        elif len(words) > 1:
            words[1] = self.numbers.get(words[1], words[1])
        call = self.kernel.start(line, lambda: CALLS[words[0]](self, *words[1:]))
        if not self.kernel.wait((call,), patience):
            self.waiting[line] = call
            return "HANG"
        return outcome(call)

    def hear(self) -> str:
        """Return what came of the calls that hung, once they are back."""
        for call in self.waiting.values():
            self.kernel.wait((call,), PATIENCE)
        words = ", ".join(
            f"{line}: {outcome(call) if call.done else 'HANG'}"
            for line, call in self.waiting.items()
        )
        self.waiting = {line: call for line, call in self.waiting.items() if not call.done}
        return words


def outcome(call: Call) -> str:
    """Return how a call ended, in one word, or with what it has returned."""
    if call.error is None:
        return f"ok {call.value}".rstrip() if isinstance(call.value, str) else "ok"
    if isinstance(call.error, OSError) and call.error.errno:
        return errorcode[call.error.errno]
    return repr(call.error)


def status(actor: Actor, device: str) -> str:
    """Ask for a dm device's state."""
    found = actor.kernel.dm_status(device)
    return f"{'suspended ' * found.suspended}{'inactive' * found.inactive_table}"


def write(actor: Actor, first: str, *data: str) -> None:
    """Write to a file of /sys, or to one that the holder has open."""
    if data:
        actor.kernel.write(first, data[0].encode())
    else:
        actor.holder.write(first)


def vanish(actor: Actor, path: str) -> None:
    """Wait until a directory is gone. TimeoutError if it stays."""
    until = actor.kernel.now() + PATIENCE
    while actor.kernel.now() < until:
        try:
            actor.kernel.listdir(path)
        except FileNotFoundError:
            return
        actor.kernel.sleep(TICK)
    raise TimeoutError(path)


CALLS: dict[str, Callable[..., object]] = {
    "ask": lambda actor, device: actor.kernel.dm_status(device),
    "clear_nbd": lambda actor, device, *how: actor.kernel.clear_nbd(device, "disconnect" in how),
    "close": lambda actor, name: actor.holder.close(name),
    "defer": lambda actor, device: actor.holder.defer(device),
    "detach_loop": lambda actor, device: actor.kernel.detach_loop(device),
    "dm_clear": lambda actor, device: actor.kernel.dm_clear(device),
    "dm_load_error": lambda actor, device, size: actor.kernel.dm_load_error(device, int(size)),
    "dm_message": lambda actor, device, sector, *words: actor.kernel.dm_message(
        device, int(sector), " ".join(words)
    ),
    "dm_remove": lambda actor, device: actor.kernel.dm_remove(device),
    "dm_resume": lambda actor, device: actor.kernel.dm_resume(device),
    "dm_status": status,
    "dm_suspend": lambda actor, device, *how: actor.kernel.dm_suspend(
        device, "lockfs" in how, "flush" in how
    ),
    "enter": lambda actor, path: actor.holder.enter(path),
    "flush": lambda actor, device, *how: actor.kernel.flush(device, "alone" in how),
    "freeze": lambda actor, target: actor.kernel.freeze(target),
    "list": lambda actor, path: " ".join(sorted(actor.kernel.listdir(path))),
    "open": lambda actor, name, path, *how: actor.holder.open(name, path, "write" in how),
    "read": lambda actor, path: actor.kernel.read(path).decode().strip(),
    "remount": lambda actor, target, *how: actor.kernel.remount(target, "", "readonly" in how),
    "silence": lambda actor, device: actor.holder.silence(device),
    "stop_array": lambda actor, device: actor.kernel.stop_array(device),
    "swapoff": lambda actor, path: actor.kernel.swapoff(path),
    "sync": lambda actor: actor.kernel.sync(),
    "syncfs": lambda actor, target: actor.kernel.syncfs(target),
    "thaw": lambda actor, target: actor.kernel.thaw(target),
    "umount": lambda actor, target, *how: actor.kernel.umount(
        target, "detach" in how, "force" in how
    ),
    "vanish": vanish,
    "wait": lambda actor: actor.kernel.sleep(REST),
    "write": write,
}


def shell(text: str) -> None:
    """Run shell text. RuntimeError, with what it has said, if it fails."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    to_file = [(os.POSIX_SPAWN_OPEN, 1, SAID, flags, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
    pid = os.posix_spawn("/bin/sh", ("sh", "-c", text), dict(os.environ), file_actions=to_file)
    if os.waitpid(pid, 0)[1]:
        with open(SAID) as said:
            raise RuntimeError(f"{said.read()}\nthis failed: {text}")


def tell(kind: str, stack: Stack) -> None:
    """Print the layers of a stack."""
    for layer in stack.layers:
        print((kind, repr(layer)), flush=True)
    for problem in stack.problems:
        print(("problem", problem), flush=True)


def play(kernel: Kernel, scenario: Scenario) -> None:
    """Build one scenario and act it out, and tell what scan sees before and after."""
    print(("scenario", scenario.name), flush=True)
    shell(PRELUDE + scenario.build)
    os.sync()
    actor = Actor(kernel, Holder())
    tell("start", actor.start)
    for line, expected in scenario.lines:
        patience = LITTLE_PATIENCE if expected == "HANG" else PATIENCE
        print(("line", line, actor.act(line, patience)), flush=True)
    kernel.sleep(REST)
    tell("end", scan(kernel))


def main() -> None:
    """Act out all scenarios."""
    kernel = LinuxKernel()
    for scenario in SCENARIOS:
        play(kernel, scenario)
