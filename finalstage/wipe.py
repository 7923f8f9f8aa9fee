"""The panic button: no encrypted device keeps a key, on a machine that goes on or is switched off.

The launcher starts it as it starts the stage, with the tree as the root, in a mount namespace of
its own (finalstage/launcher/wipe.c). So all that it runs from is in memory, and stays when root's
device is sealed. What it says goes to the launcher, which never makes it wait.
"""

from __future__ import annotations

import gc
import posix

from finalstage import fscrypt, handover, keys, scrub
from finalstage.bounded import bind, together
from finalstage.console import Console
from finalstage.kernel import faulty
from finalstage.kernel.linux import LinuxKernel, environment
from finalstage.layers import dm
from finalstage.layers.mount import Mount
from finalstage.scan import scan
from finalstage.seal import Sealed, seal_at_once
from finalstage.stack import Stack, io_below, resting
from finalstage.stage import KEY_LEFT, OLD_ROOT, OWN_MOUNTS
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from finalstage.kernel import Kernel
    from finalstage.lines import Line

ASKED_FOR = "--wipe-keys"
"""The first argument, where the stage is to be this."""

STANDARD_OUTPUT = 1
SCAN_SECONDS = 2.0
LOCK_SECONDS = 0.2
"""For keys of directories. They go at once; then what is dirty is written, which waits for ever
where the launcher has sealed the device already: do_remove_key() in fs/crypto/keyring.c."""

WHOLE_SECONDS = 15.0
"""For sealing, where something below does not answer."""

REST_SECONDS = 4.0
SCRUB_SECONDS = 25.0
ERROR_SECONDS = 1.0

SYSTEM = frozenset(("/", "/usr"))
"""What processes run from, PID 1 among them: an error in place of a page would kill it, and panic
the kernel."""

WAITED_FOR = frozenset(("md", "bcache"))
"""Kinds of layers that reboot(2) has write their superblocks."""


def main(arguments: list[str]) -> NoReturn:
    """Wipe keys, say so, and end; threads that hang are not waited for, nor ended one by one."""
    gc.disable()
    kernel = faulty.wrap(LinuxKernel(console=STANDARD_OUTPUT), environment())
    posix._exit(run(kernel, arguments[2:]))


def run(kernel: Kernel, words: list[str]) -> int:
    """Wipe the keys of all devices, or of those that are named; return the exit status.

    Words are ``--devices=MAJOR:MINOR,…``, ``--scrub``, and ``--poweroff`` if the launcher is to go
    on by that.
    """
    wipe = Wipe(kernel, words)
    try:
        wipe.look()
        wipe.seal()
    except Exception as error:
        wipe.console.problem(f"cannot wipe keys: {describe(error)}")
        return 1  # without having told that all is sealed: so the launcher does it
    for name, step in (("rest", wipe.rest), ("scrub", wipe.scrub)):
        kernel.tell_guardian(f"phase {name}")
        try:
            step()
        except Exception as error:
            wipe.failed = True
            wipe.console.problem(f"{name} failed: {describe(error)}")
    wipe.sum_up()
    kernel.tell_guardian("phase done")
    return int(wipe.failed)


class Wipe:
    """What its steps know of each other."""

    def __init__(self, kernel: Kernel, words: list[str]) -> None:
        self.kernel = kernel
        self.console = Console(kernel)
        named = [word.partition("=")[2] for word in words if word.startswith("--devices=")]
        self.named = frozenset(each for word in named for each in word.split(","))
        self.goes_down = "--poweroff" in words
        self.scrubs = "--scrub" in words
        self.stack = Stack(layers=())
        self.sealed: list[Sealed] = []
        self.failed = False

    def look(self) -> None:
        """Lock memory, and look which devices there are. Raises OSError if that cannot be seen."""
        self.kernel.tell_guardian("phase look")
        try:
            self.kernel.lock_memory()
        except OSError as error:
            self.console.problem(f"cannot lock memory: {describe(error)}")
        call = self.kernel.start("scan", bind(scan, self.kernel, OWN_MOUNTS, OLD_ROOT))
        self.kernel.wait((call,), SCAN_SECONDS)
        if call.error:
            raise call.error
        if not isinstance(call.value, Stack) or call.value.blind:
            raise TimeoutError("it cannot be seen which devices there are")
        self.stack = call.value

    def seal(self) -> None:
        """Wipe the keys, those that the system runs from last; then have what was sealed beside it
        fail, rather than wait for ever."""
        self.kernel.tell_guardian("phase seal")
        lines: list[Line] = []
        if not self.named:
            until = self.kernel.now() + LOCK_SECONDS
            lines = fscrypt.lock(self.kernel, self.stack, until)
        groups = groups_of(self.stack, self.named)
        until = self.kernel.now() + WHOLE_SECONDS
        self.sealed = seal_at_once(self.kernel, self.stack, groups, until, self.console.problem)
        missing = self.named - {each.layer.device for each in self.sealed}
        if missing or any(each.error for each in self.sealed):
            self.failed = True
        else:
            self.kernel.tell_guardian("sealed")
        flowing = self.let_errors_flow()
        for each in self.sealed:
            if each.error:
                self.console.problem(f"{KEY_LEFT}: {each.layer.title}: {each.error}")
            else:
                self.console.say(f"wiped the key of {each.layer.title}{after(each.layer, flowing)}")
        for device in sorted(missing):
            self.console.problem(f"cannot wipe the key of {device}: no such encrypted device")
        self.say_all(lines)

    def let_errors_flow(self) -> set[str]:
        """Put error tables into devices that lost their key, where nobody dies of it; return which.

        On the way down also where reboot(2) would wait for an array above.
        """
        waits = {layer.id for layer in self.stack.layers if layer.kind in WAITED_FOR}
        keep = must_wait(self.stack)
        layers = [
            each.layer
            for each in self.sealed
            if not each.error
            and each.layer.has_live_key
            and (
                each.layer.id not in keep
                or (self.goes_down and resting(self.stack, (each.layer.id,)) & waits)
            )
        ]
        calls = {layer.id: bind(dm.replace_by_error, self.kernel, layer) for layer in layers}
        until = self.kernel.now() + ERROR_SECONDS
        errors = together(self.kernel, calls, ERROR_SECONDS, until)
        return {id for id, error in errors.items() if not error}

    def rest(self) -> None:
        """Overwrite what else is a key, if all are to go: key files in memory, keyrings."""
        if self.named:
            return
        until = self.kernel.now() + REST_SECONDS
        options = handover.read(self.kernel, ["poweroff"], {}).options
        self.say_all(keys.wipe_files(self.kernel, until, options.keyfiles))
        self.say_all(keys.clear(self.kernel, until))
        keys.let_go(self.kernel, until)

    def scrub(self) -> None:
        """Overwrite free memory, if that is wanted. What is in use keeps its plaintext."""
        if self.scrubs:
            until = self.kernel.now() + SCRUB_SECONDS
            self.say_all(scrub.scrub(self.kernel, until, scrub.ALWAYS, True))

    def say_all(self, lines: list[Line]) -> None:
        """Say what a step has to say."""
        for line in lines:
            (self.console.problem if line.bad else self.console.say)(line.words)
            self.failed = self.failed or line.words.startswith(KEY_LEFT)

    def sum_up(self) -> None:
        """Say how it went, and what is still in memory."""
        left = sum(bool(each.error) for each in self.sealed)
        words = f"keys wiped {len(self.sealed) - left}, keys left {left}"
        self.console.say(f"{words}, {self.console.seconds():.2f} s", event="wipe-keys")
        if not self.goes_down:
            self.console.say("plaintext of open files stays in memory until power is switched off")


def after(layer: dm.Dm, flowing: set[str]) -> str:
    """Return what has become of a device without its key, in words."""
    if not layer.has_live_key:
        return ", which was in an inactive table"
    return f": I/O on it {'fails' if layer.id in flowing else 'waits for ever'} from now on"


def groups_of(stack: Stack, named: frozenset[str]) -> tuple[set[str], set[str]]:
    """Return the ids of the devices whose keys are to be wiped: first of those that the system does
    not run from, then of those it does. None are named where all are meant."""
    wanted = {
        layer.id
        for layer in stack.layers
        if isinstance(layer, dm.Dm) and layer.has_key and (not named or layer.device in named)
    }
    system = io_below(stack, (x.id for x in mounts(stack) if x.name in SYSTEM))
    return wanted - system, wanted & system


def must_wait(stack: Stack) -> set[str]:
    """Return what lies below something that must not see an error: what the system runs from, swap,
    and file systems that would panic the kernel."""
    roots = {layer.id for layer in mounts(stack) if layer.name in SYSTEM or layer.panics}
    return io_below(stack, roots | {layer.id for layer in stack.layers if layer.kind == "swap"})


def mounts(stack: Stack) -> list[Mount]:
    """Return the mounts of a stack."""
    return [layer for layer in stack.layers if isinstance(layer, Mount)]
