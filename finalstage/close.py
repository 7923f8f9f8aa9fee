"""Runs a plan: every step starts the moment its holders are gone, as many at once as helps."""

from __future__ import annotations

from finalstage import progress
from finalstage.bounded import bind
from finalstage.handover.options import WIDTH
from finalstage.stack import Stack, io_below
from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finalstage.kernel import Call, Kernel
    from finalstage.plan import Plan, Step
    from finalstage.stack import Layer

    Action = Callable[[Kernel, Layer], None]
    Listener = Callable[["Outcome"], None]

TICK = 1.0
"""Seconds between two looks at what moves. A step that takes longer no longer counts in the width:
eight that hang must not stop a ninth."""

PASSED_SHARE = 1 / 8
"""Share of the patience after which a stubborn run no longer has others wait for a step that stands
still; at once where one of its disks has cost somebody all of it before. What hangs mostly hangs
from top to bottom, and the whole stack should not take its time layer by layer."""

AGAIN = 2.0
"""Seconds of patience with a disk that has cost somebody all of it before."""

SHOWN_AFTER, SHOWN_EVERY = 2.0, 5.0
"""Seconds until a person is told what we wait for, and between two such lines."""


class Outcome(Value):
    """How a step ended: `error` is None for success, TimeoutError if it never came back."""

    layer: Layer
    error: BaseException | None
    seconds: float


class Running:
    """A step under way, and when the disks below it last did something."""

    def __init__(self, step: Step, now: float) -> None:
        self.step = step
        self.passed = False
        self.transferred = -1
        self.moved = now


class Closer:
    """Runs plans, and remembers over all of them which calls were left behind.

    A layer whose call hangs is never touched again: whatever else is asked of it would hang too.
    `still` are the disks below such layers, with what they had done by then: for one that has not
    moved since, nobody is patient a second time. `width` is how many calls are made at once, and
    `ends_by` a time at which a run ends even if it was given a later one.
    """

    def __init__(self, kernel: Kernel, say: Callable[[str], None]) -> None:
        """`say` tells a person what is being waited for."""
        self.kernel = kernel
        self.say = say
        self.width = WIDTH
        self.ends_by = float("inf")
        self.left_behind: dict[str, Call] = {}
        self.still: dict[str, int] = {}

    def hangs(self, id: str) -> bool:
        """Whether a call to this layer was left behind and has still not come back."""
        call = self.left_behind.get(id)
        if call is None:
            return False
        self.kernel.wait((call,), 0)
        return not call.done

    def take_back_one(self, id: str) -> bool:
        """Forget the call to this layer that was left behind, if there is one, and no longer hangs;
        return whether it had success. The scan that a plan is made of may be older than that."""
        call = self.left_behind.pop(id, None)
        return call is not None and call.error is None

    def hear_again(self, until: float, while_moving: bool = False) -> bool:
        """Give calls that were left behind until then to come back: what they wait for is gone, or
        they were left for want of time, and then only as long as a disk below moves.

        Return whether any has come back, then or before.
        """
        came_back = self.take_back(0)
        counts, moved = self.still, self.kernel.now()
        while self.left_behind:
            now = self.kernel.now()
            if now >= until or (while_moving and now - moved >= AGAIN):
                break
            came_back |= self.take_back(min(TICK, until - now))
            before, counts = counts, self.transferred(self.still)
            if counts != before:
                moved = self.kernel.now()
        return came_back

    def take_back(self, timeout: float) -> bool:
        """Wait until a call that was left behind comes back, and forget those that have; return
        whether any has."""
        back = self.kernel.wait(self.left_behind.values(), timeout)
        self.left_behind = {id: call for id, call in self.left_behind.items() if call not in back}
        return bool(back)

    def transferred(self, disks: Iterable[str]) -> dict[str, int]:
        """Return how many requests each disk has completed."""
        return {disk: progress.transferred(self.kernel, disk) for disk in disks}

    def run(
        self,
        plan: Plan,
        until: float,
        patience: float,
        listen: Listener,
        act: Action,
        stubborn: bool = False,
    ) -> None:
        """Do `act` to each layer in the plan's order, until the time `until`.

        A step is left behind when no disk below it has moved for `patience` seconds. `listen`
        hears of each outcome as it happens. A step that fails, or whose layer hangs from before,
        stops those that wait for it, unless `stubborn`.
        """
        Run(self, plan, listen, act, stubborn).until(until, patience)


class Run:
    """One plan being run."""

    def __init__(
        self, closer: Closer, plan: Plan, listen: Listener, act: Action, stubborn: bool
    ) -> None:
        self.closer = closer
        self.kernel = closer.kernel
        self.listen = listen
        self.act = act
        self.stubborn = stubborn
        self.stack = Stack(layers=tuple(step.layer for step in plan.steps) + plan.kept)
        self.waiting = {step.layer.id: set(step.after) for step in plan.steps}
        self.users: dict[str, list[Step]] = {}
        self.disks: dict[str, list[str]] = {}
        for step in plan.steps:
            for id in step.after:
                self.users.setdefault(id, []).append(step)
        self.ready: list[Step] = []
        self.running: dict[Call, Running] = {}
        for step in plan.steps:
            if not step.after:
                self.offer(step)

    def until(self, until: float, patience: float) -> None:
        """Run until nothing is left to do, or to wait for."""
        show_at = self.kernel.now() + SHOWN_AFTER
        while self.ready or self.running:
            now, until = self.kernel.now(), min(until, self.closer.ends_by)
            if now >= until:
                break
            self.start()
            for call in self.kernel.wait(self.running, min(TICK, until - now)):
                self.ended(call)
            for call in self.stalled(patience):
                self.leave_behind(call)
            if self.running and self.kernel.now() >= show_at:
                show_at = self.kernel.now() + SHOWN_EVERY
                self.show()
        for call in list(self.running):
            self.leave_behind(call)

    def offer(self, step: Step) -> None:
        """Take in a step whose holders are gone."""
        if self.closer.hangs(step.layer.id):
            if self.stubborn:
                self.free_users(step)
        elif self.closer.take_back_one(step.layer.id):
            self.free_users(step)
        else:
            self.ready.append(step)

    def free_users(self, step: Step) -> None:
        """Offer the steps that waited for this one alone."""
        for user in self.users.get(step.layer.id, ()):
            blockers = self.waiting[user.layer.id]
            blockers.discard(step.layer.id)
            if not blockers:
                self.offer(user)

    def start(self) -> None:
        """Start as many steps as there is room for."""
        now = self.kernel.now()
        room = max(0, self.closer.width - sum(now - call.started < TICK for call in self.running))
        steps, self.ready = self.ready[:room], self.ready[room:]
        for step in steps:
            act = bind(self.act, self.kernel, step.layer)
            call = self.kernel.start(step.layer.title, act)
            state = self.running[call] = Running(step, now)
            if self.stubborn and self.closer.still and self.is_known(self.transferred_below(step)):
                self.pass_by(state)

    def transferred_below(self, step: Step) -> dict[str, int]:
        """Return how many requests each disk below a step's layer has completed."""
        return self.closer.transferred(self.disks_below(step.layer.id))

    def is_known(self, counts: dict[str, int]) -> bool:
        """Whether one of some disks has stood still since somebody was left behind above it."""
        return any(self.closer.still.get(disk) == count for disk, count in counts.items())

    def pass_by(self, state: Running) -> None:
        """Have those that wait for a step wait for it no longer."""
        if not state.passed:
            state.passed = True
            self.free_users(state.step)

    def disks_below(self, id: str) -> list[str]:
        """Return the disks to which a layer writes in the end."""
        if id not in self.disks:
            below = (self.stack.by_id[lower] for lower in sorted(io_below(self.stack, (id,))))
            self.disks[id] = [layer.device for layer in below if layer.is_disk]
        return self.disks[id]

    def ended(self, call: Call) -> None:
        """Take in that a call came back."""
        state = self.running.pop(call)
        self.listen(Outcome(state.step.layer, call.error, call.finished - call.started))
        if (call.error is None or self.stubborn) and not state.passed:
            self.free_users(state.step)

    def leave_behind(self, call: Call) -> None:
        """Give a call up. A stubborn run goes on below it."""
        state = self.running.pop(call)
        if self.stubborn:
            self.pass_by(state)
        layer = state.step.layer
        self.closer.left_behind[layer.id] = call
        self.closer.still |= self.transferred_below(state.step)
        seconds = self.kernel.now() - call.started
        self.listen(Outcome(layer, TimeoutError(f"no answer in {seconds:.0f} s"), seconds))

    def stalled(self, patience: float) -> list[Call]:
        """Return the calls below which nothing has moved for too long."""
        now = self.kernel.now()
        found = []
        for call, state in list(self.running.items()):
            if now - call.started < TICK:
                continue
            counts = self.transferred_below(state.step)
            stood = now - state.moved
            if sum(counts.values()) != state.transferred:
                state.transferred, state.moved = sum(counts.values()), now
            elif stood >= (min(patience, AGAIN) if self.is_known(counts) else patience):
                found.append(call)
            elif stood >= patience * PASSED_SHARE and self.stubborn:
                self.pass_by(state)
        return found

    def show(self) -> None:
        """Tell what we wait for."""
        oldest = min(self.running, key=lambda call: call.started)
        left = progress.dirty_bytes(self.kernel) >> 20
        seconds = self.kernel.now() - oldest.started
        more = f" and {len(self.running) - 1} more" if len(self.running) > 1 else ""
        words = f"waiting for {oldest.name}{more}: {left} MiB left to write, {seconds:.0f} s"
        self.closer.say(words)
