"""Closes what was selected, looks again, and goes on until nothing more changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from errno import EBUSY
from typing import Protocol

from finalstage.bounded import bind, together
from finalstage.cli.close import gently, holding
from finalstage.cli.close.selection import Selection, firm
from finalstage.close import Closer, Outcome
from finalstage.kernel import Kernel
from finalstage.scan import scan
from finalstage.stack import Layer, Stack, rounds
from finalstage.world import describe

SCAN_SECONDS, HOLDERS_SECONDS = 10.0, 3.0

PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds to wait before looking again where nothing would close: udev looks at a device for a
moment when it was changed."""

PATIENCE_SHARE = 1 / 4
"""How long a call may wait for a disk on which nothing moves, as a share of the whole."""

STOP_SECONDS = 10.0
"""How long calls under way may take to come back when somebody wants it to stop."""

NO_SCAN = f"no answer in {SCAN_SECONDS:.0f} s"
UNWRITTEN = "cannot write out what is in its cache"


class StoppedError(Exception):
    """Somebody wants it to stop: nothing new is begun."""


class Audience(Protocol):
    """Who looks on."""

    def started(self, layer: Layer) -> None:
        """Hear that something is being done to a layer. Called from any thread."""

    def ended(self, outcome: Outcome) -> None:
        """Hear how that ended."""


@dataclass(frozen=True)
class Result:
    """What came of it: the stack in the end, what of the selection is closed and what is left, and
    lines that say why, and what could not be written out."""

    stack: Stack
    closed: tuple[Layer, ...]
    left: tuple[Layer, ...]
    problems: tuple[str, ...]
    stopped: bool


@dataclass
class Closing:
    """A run. `stop` says whether somebody wants it to stop, and `until` when it has to have
    ended. What cannot be written out stays unless it is `lossy`. Failures are those of each layer's
    last step; it is `blind` if nobody could look what is left."""

    kernel: Kernel
    selection: Selection
    closer: Closer
    audience: Audience
    until: float
    stop: Callable[[], bool] = lambda: False
    lossy: bool = False
    failures: dict[str, Outcome] = field(default_factory=dict)
    blind: bool = False

    def run(self) -> Result:
        """Close until a scan shows that nothing more has gone."""
        stack = self.selection.stack
        patience = (self.until - self.kernel.now()) * PATIENCE_SHARE
        pauses = list(PAUSES)
        left = self.selection.closing
        while left and not self.stop() and self.kernel.now() < self.until:
            plan = self.selection.plan(stack)
            self.closer.run(plan, self.until, patience, self.heard, self.act)
            stack = self.look(stack)
            before, left = left, self.left(stack)
            if len(left) < len(before):
                continue
            if not pauses:
                break
            self.kernel.sleep(pauses.pop(0))
        return self.result(stack, left)

    def act(self, kernel: Kernel, layer: Layer) -> None:
        """Close a layer, or write it out where it stays."""
        if self.stop():
            raise StoppedError
        self.audience.started(layer)
        if layer.id in self.selection.ids:
            gently.close(kernel, layer, self.lossy)
        else:
            gently.flush(kernel, layer)

    def heard(self, outcome: Outcome) -> None:
        """Take in how a step ended."""
        if isinstance(outcome.error, StoppedError):
            return
        self.audience.ended(outcome)
        if outcome.error:
            self.failures[outcome.layer.id] = outcome
        else:
            self.failures.pop(outcome.layer.id, None)

    def look(self, before: Stack) -> Stack:
        """Scan in bounded time; where that does not come back, nothing is known to have gone.

        A mount whose umount(2) has not come back has left the tree, while its file system is still
        there: namespace_unlock() in fs/namespace.c.
        """
        found = look(self.kernel, before)
        self.blind = found is None
        stack = found or before
        unseen = tuple(
            layer
            for layer in self.selection.closing
            if layer.id not in stack.by_id and layer.kind == "mount"
            if self.closer.hangs(layer.id)
        )
        return stack.but(layers=unseen + stack.layers)  # type: ignore[no-any-return]

    def left(self, stack: Stack) -> tuple[Layer, ...]:
        """Return what is still there of the selection. A number may have been given anew."""
        there = stack.by_id
        return tuple(
            layer
            for layer in self.selection.closing
            if layer.id in there and there[layer.id].name == layer.name
        )

    def result(self, stack: Stack, left: tuple[Layer, ...]) -> Result:
        """Say what came of it."""
        ids = {layer.id for layer in left}
        stopped = self.stop()
        held = find_holders(self.kernel, stack, frozenset(ids)) or {}
        titles = {layer.id: layer.title for layer in stack.layers}
        above = firm(stack).above
        problems = [f"cannot see what is left: {NO_SCAN}"] * self.blind
        for layer in left:
            users = [titles[user] for user in above.get(layer.id, ()) if user not in ids]
            who = [*users, *held.get(layer.id, ())]
            error = self.error(layer)
            if error is None and not who:
                continue  # what is on it stays
            if isinstance(error, OSError) and error.errno == EBUSY:
                who = who or ["nobody that can be seen"]
            by = f"; held by {', '.join(who)}" if who else ""
            reason = self.reason(layer) or ("not tried any more" if stopped else "held")
            problems.append(f"{layer.title} stays: {reason}{by}{self.remedy(layer)}")
        for layer in self.selection.flushed:
            if reason := self.reason(layer):
                problems.append(f"{layer.title}: {UNWRITTEN}: {reason}")
        closed = tuple(layer for layer in self.selection.closing if layer.id not in ids)
        for layer in closed:
            if reason := self.reason(layer):
                problems.append(f"{layer.title} is closed, but not all was written: {reason}")
        return Result(stack, closed, left, tuple(problems), stopped)

    def error(self, layer: Layer) -> BaseException | None:
        """Return why the last step of a layer failed, or None."""
        return self.failures[layer.id].error if layer.id in self.failures else None

    def remedy(self, layer: Layer) -> str:
        """Return what to do about what stays, where there is something special."""
        error = self.error(layer)
        if isinstance(error, OSError) and error.errno in gently.LOST:
            return "; --lossy gives up what cannot be written"
        return ""

    def reason(self, layer: Layer) -> str:
        """Return why the last step of a layer failed, in words, or ""."""
        error = self.error(layer)
        if error is None:
            return ""
        return describe(error) + (", and was left behind" if type(error) is TimeoutError else "")


def write_out(kernel: Kernel, devices: Iterable[Layer], until: float) -> list[str]:
    """Write out devices on which nothing is to be closed; return what failed, a line each."""
    found = []
    for group in rounds(Stack(layers=tuple(devices)), devices):  # partitions before disks
        calls = {layer.title: bind(gently.flush, kernel, layer) for layer in group}
        for title, problem in together(kernel, calls, until - kernel.now(), until).items():
            if problem:
                found.append(f"{title}: {UNWRITTEN}: {problem}")
    return found


def look(kernel: Kernel, before: Stack | None = None) -> Stack | None:
    """Scan, in bounded time; None if that does not come back. What did not answer `before` is not
    asked again before it has."""
    known = before.layers if before else ()
    call = kernel.start("scan", bind(scan, kernel, frozenset(), "", known))
    kernel.wait((call,), SCAN_SECONDS)
    return call.value if isinstance(call.value, Stack) else None


def find_holders(kernel: Kernel, stack: Stack, ids: frozenset[str]) -> dict[str, list[str]] | None:
    """Ask which processes hold some layers, in bounded time; None if nobody can tell."""
    call = kernel.start("holders", bind(holding.find, kernel, stack, ids))
    kernel.wait((call,), HOLDERS_SECONDS)
    return call.value if isinstance(call.value, dict) else None
