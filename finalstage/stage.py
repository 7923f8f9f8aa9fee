"""The last second, top to bottom: the phases, and the one place that knows their order."""

from __future__ import annotations

import gc
from errno import EIO, ENOSPC

from finalstage import (
    __version__,
    drawing,
    fscrypt,
    handlers,
    handover,
    holders,
    hooks,
    keep,
    keys,
    layers,
    moments,
    mor,
    panics,
    processes,
    scrub,
    vfat,
)
from finalstage.bounded import bind, bounded, together
from finalstage.circle import break_open
from finalstage.close import Closer, Outcome
from finalstage.console import Console
from finalstage.free import free
from finalstage.kernel import faulty
from finalstage.kernel.linux import LinuxKernel, environment
from finalstage.layers import md, mount
from finalstage.layers.dm import Dm
from finalstage.layers.mount import Mount
from finalstage.plan import plan
from finalstage.report import Report
from finalstage.scan import scan
from finalstage.seal import Sealed, seal
from finalstage.stack import Stack, circles, covering, gives_way, io_below, rounds
from finalstage.unblock import unblock
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from finalstage.handover import Request
    from finalstage.kernel import Kernel
    from finalstage.lines import Line
    from finalstage.processes import Process
    from finalstage.stack import Layer

OWN_MOUNTS = frozenset(("/", "/dev", "/proc", "/sys"))
"""The tree's own mounts. They stay: they are only memory, and we live in them."""

OLD_ROOT = "/oldroot"

KEY_LEFT = "A KEY MAY REMAIN IN MEMORY"
"""How every line begins that says so."""

REMAINS = "remains "
"""How a line begins about a layer that would not close."""

HURRY_SECONDS = 1.0
KILL_SECONDS = 5.0
SCAN_SECONDS = 10.0
HOLDERS_SECONDS = 3.0
RETURN_SECONDS = 1.0
FLUSH_SECONDS = 3.0
SYNC_SECONDS, SYNC_BESIDE_SECONDS = 10.0, 1.0
"""The latter where something hangs: then sync(2) only gets the others going, and never returns."""

RCU_EXPEDITED = "/sys/kernel/rcu_expedited"
KEEP_ALL = "/proc/sys/kernel/printk_devkmsg"

MOST_TOLD, LONG_SECONDS = 60, 2.0
"""How many layers the console is told of as they are closed, and which of the others too."""

MOST_DRAWN = 40
"""Lines of a drawing that a console gets to show."""

DRAIN_SECONDS = 2.0
PASS_BY_SECONDS = 0.2
ASIDE_SECONDS, MOVE_SECONDS = 5.0, 1.0
REBOOT_SECONDS, REBOOT_SECONDS_MOST = 3.0, 30.0
SYSRQ_SECONDS = 0.5
"""For what is left to do when reboot(2) hangs."""

FALLBACKS = {
    "poweroff": ("poweroff", "poweroff", "halt"),
    "halt": ("halt", "halt"),
    "reboot": ("reboot", "reboot"),
    "kexec": ("kexec", "reboot", "reboot"),
}
"""What is tried, one after the other. Twice the same, since what failed may have been ours."""

SYSRQ = {"poweroff": b"o", "halt": b"o", "reboot": b"b", "kexec": b"b"}
"""Documentation/admin-guide/sysrq.rst. A second reboot(2) would wait for a first that hangs."""

CLOSE_SHARE, SETTLE_SHARE = 1 / 4, 1 / 8
"""How long a call may wait for a disk on which nothing moves, as shares of the whole."""

HOOKS_LEAVES = 10 / 16
CLOSE_LEAVES, SETTLE_LEAVES, FREE_LEAVES, SEAL_LEAVES = 8 / 16, 6 / 16, 4 / 16, 3 / 16
LAST_CLOSE_LEAVES, DOWN_LEAVES = 2 / 16, 1 / 16
"""Shares of the whole that are left when a phase, closing what was sealed, and all that is not
going down itself have to end. What still moves when closing ends has until FREE_LEAVES to come
back: the others must have been written out before that. What is run when all but root is closed has
until HOOKS_LEAVES."""

PAUSES = (0.05, 0.1, 0.2)
"""Seconds to wait before looking again where nothing would close: a process that was killed may
hold its files for a moment longer than its name stands in /proc."""


def main(arguments: list[str]) -> int:
    """Run the stage. Returns only if the machine did not go down."""
    if arguments[1:] == ["--version"]:
        print(f"finalstage {__version__}")
        return 0
    gc.disable()  # what there is stays until the end, and looking for what does not takes longer
    variables = environment()
    run(faulty.wrap(LinuxKernel(), variables), arguments[1:], variables)
    return 1


def run(kernel: Kernel, arguments: list[str], environment: Mapping[str, str]) -> None:
    """Take the machine down. Every phase is bounded, may fail, and never stops the next."""
    stage = Stage(kernel)
    stage.phase("prepare", lambda: stage.prepare(arguments, environment))
    stage.phase("defuse", stage.defuse)
    stage.phase("start", stage.hooks_at_start)
    stage.phase("kill", stage.kill)
    stage.phase("files", stage.files)
    stage.phase("unblock", stage.unblock)
    stage.phase("hooks", stage.hooks)
    stage.phase("close", stage.close)
    stage.phase("lock", stage.lock)
    stage.phase("settle", stage.settle)
    stage.phase("free", stage.free)
    stage.phase("seal", stage.seal)
    stage.phase("flush", stage.flush)
    stage.phase("closed", stage.hooks_when_closed)
    stage.phase("keys", stage.keys)
    stage.phase("scrub", stage.scrub)
    stage.phase("report", stage.report)
    stage.phase("keep", stage.keep)
    stage.phase("last", stage.hooks_at_last)
    stage.phase("down", stage.down)


class Stage:
    """What the phases know of each other."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.remembered = Report(urgent=(KEY_LEFT, REMAINS))
        self.console = Console(kernel, listen=self.remembered.take)
        self.started = kernel.now()
        self.request: Request = handover.Request(verb="poweroff")
        self.place = keep.Place(self.request.options.report_place)
        self.closer = Closer(kernel, self.console.say)
        self.alive: list[Process] = []
        self.stack = Stack(layers=())
        self.has_looked = False
        self.has_changed = True
        self.seen: dict[str, Layer] = {}
        self.used: set[str] = set()
        self.unsure = False
        self.failures: dict[str, Outcome] = {}
        self.told = 0
        self.sealed: list[Sealed] = []
        self.key_left = False

    @property
    def until(self) -> float:
        """The time at which the machine has to be down."""
        return self.started + self.request.options.budget

    @property
    def down_from(self) -> float:
        """The time from which on the machine has to go down."""
        return self.leaving(DOWN_LEAVES)

    def leaving(self, share: float) -> float:
        """The time at which a share of the whole is left."""
        return self.until - self.request.options.budget * share

    def phase(self, name: str, function: Callable[[], None]) -> None:
        """Run one phase; whatever goes wrong in it is said, and the next one follows."""
        self.console.record("phase", phase=name)
        try:
            self.kernel.tell_guardian(f"phase {name}")
            function()
        except BaseException as error:  # rule 5: no failure may keep us from sealing and down
            self.console.problem(f"{name} failed: {describe(error)}", phase=name)

    def prepare(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        """Read what was asked for, and lock memory."""
        self.request = handover.read(self.kernel, arguments, environment)
        self.kernel.tell_guardian(f"verb {self.request.verb}")
        self.kernel.tell_guardian(f"deadline {self.until:.0f}")
        self.console.quiet = self.request.options.quiet
        self.closer.width = self.request.options.width
        self.console.say(
            f"finalstage {__version__}: {self.request.verb}",
            event="start",
            verb=self.request.verb,
            when=int(self.kernel.time_of_day()),
        )
        for problem in self.request.problems:
            self.console.problem(problem)
        self.attempt("lock memory", self.kernel.lock_memory)
        self.attempt("keep all records", self.keep_all_records)
        self.attempt("have the kernel hurry", bind(self.expedite_rcu, b"1"))
        name = self.request.options.report_place
        self.place = keep.look_up(self.kernel, name, OLD_ROOT, self.until)
        if not self.request.as_pid1:
            self.console.problem("not started by PID 1: it stays, and with it what it holds")

    def attempt(self, what: str, function: Callable[[], object]) -> None:
        """Do what is good to have, and say if it failed."""
        try:
            function()
        except Exception as error:
            self.console.problem(f"cannot {what}: {describe(error)}")

    def keep_all_records(self) -> None:
        """Have the kernel's log take more than ten records in five seconds:
        Documentation/admin-guide/sysctl/kernel.rst."""
        try:
            self.kernel.write(KEEP_ALL, b"on\n")
        except FileNotFoundError:
            return  # before Linux 4.9 it takes all

    def expedite_rcu(self, value: bytes) -> None:
        """Have the kernel be quick where it waits until nobody reads something any more, as for
        each umount(2) and each device that is removed, or not: rcu_expedited_store() in
        kernel/ksysfs.c. Not while keys are freed, which happens after a period of the usual kind:
        keys.let_go waits for such."""
        try:
            self.kernel.write(RCU_EXPEDITED, value)
        except FileNotFoundError:
            return  # a kernel for one processor

    def defuse(self) -> None:
        """Let nothing panic the kernel, and nothing wait for a lost server longer than we can.
        Before a process is ended: it may be about to write, or be what connects again."""
        self.stack = self.look()
        for problem in panics.defuse(self.kernel, self.stack, self.until):
            self.console.problem(problem)
        for problem in handlers.dismiss(self.kernel, self.stack):
            self.console.problem(problem)
        calls = {
            layer.title: bind(layers.HURRIES[layer.kind], self.kernel, layer)
            for layer in self.stack.closing
            if layer.kind in layers.HURRIES
        }
        for name, error in together(self.kernel, calls, HURRY_SECONDS, self.until).items():
            if error:
                self.console.problem(f"{name} may wait for its server for long: {error}")

    def hooks_at_start(self) -> None:
        """Run the administrator's own before anybody is asked to end."""
        self.moment(moments.START, self.leaving(CLOSE_LEAVES), {})

    def hooks_when_closed(self) -> None:
        """Run the administrator's own when nothing more will be closed or sealed. Where the kernel
        does not end what they leave, it is ended here."""
        if self.moment(moments.CLOSED, self.leaving(LAST_CLOSE_LEAVES), self.facts()):
            self.attempt("end all processes", bind(self.end_all, 0.0))

    def hooks_at_last(self) -> None:
        """Run the administrator's own when all else is done."""
        self.moment(moments.LAST, self.leaving(DOWN_LEAVES / 2), self.facts())

    def moment(self, moment: str, until: float, facts: dict[str, str]) -> bool:
        """Run what is to be run at a moment; return whether there was anything."""
        if not hooks.are_at(self.kernel, moment, until):
            return False
        options = self.request.options
        until = min(until, self.kernel.now() + options.budget * moments.SHARE)
        each = options.hooks_timeout
        self.has_changed = True
        self.say_all(hooks.run_at(self.kernel, moment, self.request.verb, until, each, facts))
        return True

    def facts(self) -> dict[str, str]:
        """Return what the administrator's own programs may want to know of how it went."""
        return {
            "FINALSTAGE_REMAINING": str(len(self.remaining())),
            "FINALSTAGE_KEYS_LEFT": str(max(self.keys_left(), int(self.key_left))),
        }

    def kill(self) -> None:
        """End every process that is not needed for storage."""
        self.end_all(self.request.patience)
        if self.alive:
            self.console.problem(f"cannot end {processes.names(self.alive)}")

    def end_all(self, patience: float) -> None:
        """Ask processes to end, and make those that have not after some seconds."""
        changed, self.has_changed = self.has_changed, True
        term_until = self.kernel.now() + patience
        self.alive, asked = processes.end_all(
            self.kernel, term_until, term_until + KILL_SECONDS, self.console.say
        )
        self.has_changed = changed or asked

    def unblock(self) -> None:
        """Have nothing that is written wait for somebody who will not come any more."""
        self.look_again()
        self.has_changed = True
        until = self.leaving(CLOSE_LEAVES)
        self.has_changed = unblock(self.kernel, self.stack, until, self.console.problem)

    def hooks(self) -> None:
        """Run what systemd-shutdown would have run, where we stand in for it, when all but root is
        closed. Nobody that was started there goes on after it: root would be held."""
        until = self.leaving(HOOKS_LEAVES)
        folders = hooks.folders(OLD_ROOT)
        if not (self.request.stands_in and hooks.are_there(self.kernel, folders, until)):
            return
        self.look_again()
        self.close_all(
            CLOSE_SHARE,
            self.leaving(CLOSE_LEAVES),
            force=False,
            kept=lambda stack: hooks.kept(stack, OLD_ROOT),
        )
        mounts = hooks.needed(self.stack, OLD_ROOT)
        self.has_changed = True
        self.say_all(hooks.run(self.kernel, mounts, self.request.verb, until))
        self.attempt("end all processes", bind(self.end_all, 0.0))

    def close(self) -> None:
        """Close what can be closed, and look again, until nothing changes."""
        self.look_again()
        for problem in self.stack.problems:
            self.console.problem(problem)
        until = self.leaving(CLOSE_LEAVES)
        self.close_all(CLOSE_SHARE, until, force=False)
        if found := circles(self.stack):
            for circle in found:
                break_open(self.kernel, circle, until, self.console.problem)
            self.stack = self.look()
        elif not self.make_way(until):
            return
        self.close_all(CLOSE_SHARE, until)

    def close_all(
        self,
        share: float,
        until: float,
        force: bool = True,
        kept: Callable[[Stack], set[str]] = lambda stack: set(),
    ) -> None:
        """Run plans until a scan shows that nothing more has gone; `share` of the whole is what
        standing still may cost. With `force` what stands in circles is tried too, and mounts are
        moved out of the way. `kept` says which layers are left alone."""
        patience = self.request.options.budget * share
        pauses = list(PAUSES)
        while self.kernel.now() < until:
            keep = kept(self.stack)
            before = {layer.id for layer in self.stack.closing}
            if before <= keep:
                break
            steps = plan(self.stack, force, keep)
            self.closer.run(steps, until, patience, self.heard_close, layers.close)
            self.stack = self.look()
            after = {layer.id for layer in self.stack.closing}
            if before - after:
                continue
            if pauses:
                self.kernel.sleep(pauses.pop(0))
            elif not force or not self.make_way(until):
                break

    def make_way(self, until: float) -> bool:
        """Move mounts that stay away from what they are mounted on; return whether any was moved.

        A mount that is in use then holds no other one, and none that it lies on itself: an overlay
        that is the root has below it the mounts that it was made of.
        """
        until = min(until, self.kernel.now() + ASIDE_SECONDS)
        in_the_way = mount.in_the_way(self.stack)
        if not in_the_way:
            return False
        for layer, parent in in_the_way:
            move = bind(mount.move_aside, self.kernel, layer, parent)
            bounded(self.kernel, "move", move, MOVE_SECONDS, until)
        self.stack = self.look()  # also what took longer may have been moved
        return len(mount.in_the_way(self.stack)) < len(in_the_way)

    def look(self) -> Stack:
        """Scan, in bounded time; if that does not come back, the last stack must do."""
        act = bind(scan, self.kernel, OWN_MOUNTS, OLD_ROOT, self.stack.layers)
        call = self.kernel.start("scan", act)
        self.kernel.wait((call,), min(SCAN_SECONDS, self.until - self.kernel.now()))
        if isinstance(call.value, Stack):
            self.has_looked, self.has_changed = self.has_looked or not call.value.blind, False
            self.unsure = self.unsure or bool(call.value.problems) or gives_way(call.value)
            for layer in call.value.closing:
                self.seen.setdefault(layer.id, layer)  # as it was before it was sealed
            stack = self.with_unseen(call.value)
            self.used |= covering(stack, [layer.id for layer in stack.closing])
            return stack
        reason = describe(call.error) if call.error else f"no answer in {SCAN_SECONDS:.0f} s"
        self.console.problem(f"cannot scan the machine: {reason}")
        return self.stack

    def look_again(self) -> None:
        """Scan unless nothing was changed since the last time."""
        if self.has_changed:
            self.stack = self.look()

    def with_unseen(self, stack: Stack) -> Stack:
        """Return a stack with the mounts whose umount(2) has not come back. They have left the
        tree, while their file systems are still there: namespace_unlock() in fs/namespace.c."""
        there = stack.by_id
        unseen = tuple(
            layer
            for id, layer in self.seen.items()
            if isinstance(layer, Mount) and id not in there and self.closer.hangs(id)
            if not layer.has_server  # which was given up, and is out of the way
        )
        return stack.but(layers=unseen + stack.layers)  # type: ignore[no-any-return]

    def heard_close(self, outcome: Outcome) -> None:
        """Take in how closing a layer went."""
        self.record(outcome, "close")
        layer = outcome.layer
        if outcome.error:
            self.failures[layer.id] = outcome
        else:
            self.failures.pop(layer.id, None)
            if layer.closes and layer.shown:
                self.tell_closed(outcome)

    def tell_closed(self, outcome: Outcome) -> None:
        """Say that a layer was closed, as long as it is one of a few, or has taken long: a serial
        console takes milliseconds a line. The log has all of them."""
        self.told += 1
        if self.told <= MOST_TOLD or outcome.seconds >= LONG_SECONDS:
            words = f"closed {outcome.layer.title:<40} {outcome.seconds:7.3f} s"
            self.console.show(words)
        elif self.told == MOST_TOLD + 1:
            self.console.show("closing many more, which only the log names")

    def settle(self) -> None:
        """Make safe what would not close: file systems read-only, caches written out."""
        self.settle_until(self.leaving(SETTLE_LEAVES))

    def settle_until(self, until: float) -> None:
        """Do that until the time `until`."""
        if self.stack.closing:
            self.closer.run(
                plan(self.stack),
                until,
                self.request.options.budget * SETTLE_SHARE,
                self.heard_settle,
                layers.settle,
                stubborn=True,
            )
        # What is mounted where we cannot see it, in a namespace of somebody who stays.
        hung = self.hung()
        if self.stack.closing or hung:
            patience = SYNC_BESIDE_SECONDS if hung else SYNC_SECONDS
            bounded(self.kernel, "sync", self.kernel.sync, patience, until)

    def free(self) -> None:
        """Where a disk does not answer, let what waits for it fail, and try once more.

        The time for writing is over by now, and a mirror can do without its dead half. What is
        only slow gets the rest of the time instead.
        """
        until = self.leaving(FREE_LEAVES)
        if not self.stack.closing:
            return
        if free(self.kernel, self.stack, self.hung(), self.until, self.console.problem):
            self.attempt("end all processes", bind(self.end_all, 0.0))
            self.closer.hear_again(self.kernel.now() + RETURN_SECONDS)
        elif not self.closer.hear_again(until, while_moving=True):
            return
        self.stack = self.look()
        self.close_all(SETTLE_SHARE, until)
        self.settle_until(until)

    def hung(self) -> set[str]:
        """Return the layers that a call was left behind in, also those that are not seen any more:
        a network file system that was given up is still there for sync(2)."""
        return {id for id in self.closer.left_behind if self.closer.hangs(id)}

    def heard_settle(self, outcome: Outcome) -> None:
        """Take in how making a layer safe went."""
        self.record(outcome, "settle")
        layer = outcome.layer
        if outcome.error:
            what = "make it read-only" if layer.kind == "mount" else "write out its cache"
            self.console.problem(f"{layer.title}: cannot {what}: {describe(outcome.error)}")
        elif layer.kind == "mount" and layer.shown:
            self.console.say(f"read-only {layer.title}")

    def record(self, outcome: Outcome, event: str) -> None:
        """Keep the outcome of a step in the log."""
        layer = outcome.layer
        self.console.record(
            event,
            layer=layer.title,
            id=layer.id,
            kind=layer.kind,
            seconds=round(outcome.seconds, 4),
            error=describe(outcome.error) if outcome.error else None,
        )

    def seal(self) -> None:
        """Wipe the key of every encrypted device that is still there, and close what that frees."""
        if not any(isinstance(layer, Dm) and layer.has_key for layer in self.stack.layers):
            return
        until = self.leaving(SEAL_LEAVES)
        self.sealed = seal(
            self.kernel,
            self.stack,
            self.hung(),
            until,
            self.console.problem,
            let_errors_flow=self.request.as_pid1,
        )
        self.stack = self.look()
        self.close_all(SETTLE_SHARE / 2, self.leaving(LAST_CLOSE_LEAVES))
        if any(sealed.error for sealed in self.sealed):
            self.key_left = True
        else:
            self.kernel.tell_guardian("sealed")

    def flush(self) -> None:
        """Have disks write out their caches once more, where not all on them was closed in order:
        what hangs or was sealed above one may have kept its flush from it. Where something could
        not be read, or one thing had to give way for another, it is not known either what stood on
        which disk until when. What has come back late may have written to anything."""
        if not (self.failures or self.sealed or self.stack.closing or self.unsure):
            return
        late = self.closer.take_back(0)
        hung = self.hung()
        last = Stack(
            layers=tuple(
                layer
                for layer in self.stack.layers
                if (layer.is_disk or not layer.closes or (late and layer.kind != "mount"))
                and (layer.id in self.used or self.unsure)
                and layer.id not in hung
            )
        )
        for group in rounds(last, last.layers):  # partitions before disks
            calls = {layer.title: bind(layers.settle, self.kernel, layer) for layer in group}
            together(self.kernel, calls, FLUSH_SECONDS, self.leaving(LAST_CLOSE_LEAVES / 2))

    def say_all(self, lines: list[Line]) -> None:
        """Say what a phase has to say."""
        for line in lines:
            if line.bad:
                self.console.problem(line.words)
            else:
                self.console.say(line.words)
            self.key_left = self.key_left or line.words.startswith(KEY_LEFT)

    def files(self) -> None:
        """Overwrite key files in memory, before what they lie on is detached."""
        self.say_all(keys.wipe_files(self.kernel, self.until, self.request.options.keyfiles))

    def lock(self) -> None:
        """Have file systems that stay mounted forget the keys of encrypted directories."""
        self.say_all(fscrypt.lock(self.kernel, self.stack, self.until))

    def keys(self) -> None:
        """Clear all keyrings."""
        self.attempt("have the kernel take its time", bind(self.expedite_rcu, b"0"))
        self.say_all(keys.clear(self.kernel, self.down_from))

    def scrub(self) -> None:
        """Overwrite what is free, and ask the firmware to do so once more."""
        if self.request.options.firmware_scrub:
            self.say_all(mor.request(self.kernel, self.down_from))
        encrypted = any(isinstance(layer, Dm) and layer.has_key for layer in self.seen.values())
        mode = self.request.options.scrub
        self.say_all(scrub.scrub(self.kernel, self.down_from, mode, encrypted))

    def report(self) -> None:
        """Say what remains and who holds it, what became of the keys, and how long it took."""
        remaining = self.remaining()
        held = self.holders() if remaining else {}
        for layer in remaining:
            failure = self.failures.get(layer.id)
            reason = describe(failure.error) if failure and failure.error else "held"
            by = ", ".join(held.get(layer.id, ())) or "nobody that can be seen"
            self.console.problem(f"{REMAINS}{layer.title}: {reason}; held by {by}")
        self.draw(remaining)
        for failure in self.failures.values():
            error = failure.error
            if isinstance(error, OSError) and error.errno in (EIO, ENOSPC):
                self.console.problem(f"not all of {failure.layer.title} could be written")
        for sealed in self.sealed:
            if sealed.error:
                name = sealed.layer.title
                self.console.problem(f"{KEY_LEFT}: {name}: {sealed.error}")
            else:
                self.console.say(f"wiped the key of {sealed.layer.title}")
        for layer in self.unsealed():
            self.console.problem(f"{KEY_LEFT}: {layer.title}: it was not sealed")
            self.key_left = True
        if not self.has_looked:
            self.console.problem(f"{KEY_LEFT}: nobody could look which devices there are")
            self.key_left = True
        there = self.stack.by_id
        gone = [layer for layer in self.seen.values() if layer.id not in there]
        keys = self.keys_left()
        self.console.say(
            f"closed {sum(layer.shown for layer in gone)}, remaining {len(remaining)}, "
            f"keys left {keys}, {self.console.seconds():.2f} s",
            event="summary",
            keys_left=keys,
            gone=sum(layer.shown for layer in gone),
            peak_kib=processes.peak_kib(self.kernel),
            remaining=[layer.title for layer in remaining],
            closed=[layer.title for layer in gone if layer.shown],  # last: it may be cut off
        )

    def keep(self) -> None:
        """Keep the report where it outlives the power, if the machine has such a place. A disk on
        which something stood is none."""
        taken = self.used_beside_its_file() if self.place.file else self.used
        taken = taken | io_below(self.stack, self.hung())
        until = self.leaving(DOWN_LEAVES / 2)
        self.say_all(
            keep.keep(self.kernel, self.place, self.stack, taken, self.remembered.written, until)
        )

    def used_beside_its_file(self) -> set[str]:
        """Return the layers on which something stood that is not the file system in which the
        report is to be kept."""
        its_own = (mount.KIND, vfat.KIND, self.place.device)
        return {
            id
            for layer in self.seen.values()
            if (layer.kind, layer.type, layer.device) != its_own
            for id in layer.below
        }

    def remaining(self) -> list[Layer]:
        """Return what is not closed and should be."""
        return [layer for layer in self.stack.closing if layer.shown]

    def unsealed(self) -> list[Layer]:
        """Return the encrypted devices that are there and that nobody has tried to seal."""
        tried = {sealed.layer.id for sealed in self.sealed}
        return [
            layer
            for layer in self.stack.layers
            if isinstance(layer, Dm) and layer.has_key and layer.id not in tried
        ]

    def keys_left(self) -> int:
        """Return how many devices may have a key; one more where nobody could look."""
        failed = sum(bool(sealed.error) for sealed in self.sealed)
        return len(self.unsealed()) + failed + (not self.has_looked)

    def draw(self, remaining: list[Layer]) -> None:
        """Show what remains as a tree, with what it stands on."""
        part = drawing.below(self.stack, [layer.id for layer in remaining])
        lines = drawing.draw(part).splitlines()
        for line in lines[:MOST_DRAWN]:
            self.console.problem(line, event="drawing")
        if len(lines) > MOST_DRAWN:
            self.console.problem(f"... and {len(lines) - MOST_DRAWN} lines more")

    def holders(self) -> dict[str, list[str]]:
        """Ask who holds what remains, in bounded time."""
        call = self.kernel.start("holders", lambda: holders.find(self.kernel, self.stack))
        self.kernel.wait(
            (call,), min(HOLDERS_SECONDS, self.leaving(DOWN_LEAVES / 2) - self.kernel.now())
        )
        if call.error:
            self.console.problem(f"cannot see who holds what remains: {describe(call.error)}")
        return call.value if isinstance(call.value, dict) else {}

    def down(self) -> None:
        """Call reboot(2), and where that does not help, ever cruder ways."""
        if not self.sealed and not self.hung():  # sync waits for ever for a device that hangs
            bounded(self.kernel, "sync", self.kernel.sync, SYNC_SECONDS, self.until)
        verb = self.verb_in_the_end()
        silent = io_below(self.stack, self.hung())
        arrays = [layer for layer in self.stack.layers if layer.kind == "md" and layer.id in silent]
        passing = {layer.title: bind(md.pass_by, self.kernel, layer) for layer in arrays}
        together(self.kernel, passing, PASS_BY_SECONDS, self.until)
        bounded(self.kernel, "console", self.kernel.drain_console, DRAIN_SECONDS, self.until)
        for command in FALLBACKS[verb]:
            if self.reboot_hangs(command):
                break  # a second one would wait for the first
        self.kernel.write("/proc/sysrq-trigger", SYSRQ[verb])

    def verb_in_the_end(self) -> str:
        """Return how to go down: RAM that loses power forgets, and a reboot keeps it."""
        verb = self.request.verb
        if (
            self.key_left
            and verb in ("reboot", "kexec")
            and self.request.options.key_left != "go-on"
        ):
            self.console.problem(f"powering off in place of {verb}, since a key may remain")
            self.kernel.tell_guardian("verb poweroff")
            return "poweroff"
        return verb

    def reboot_hangs(self, command: str) -> bool:
        """Call reboot(2). Returns only if it failed, or hangs, and says which."""
        left = self.until - self.kernel.now() - SYSRQ_SECONDS
        patience = max(REBOOT_SECONDS, min(REBOOT_SECONDS_MOST, left))
        reboot = bind(self.kernel.reboot, command, self.request.argument)
        call = self.kernel.start(command, reboot)
        hangs = not self.kernel.wait((call,), patience)
        reason = f"no answer in {patience:.0f} s" if hangs else "the machine is still here"
        self.console.problem(f"{command} failed: {describe(call.error) if call.error else reason}")
        return hangs
