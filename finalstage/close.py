"""Runs a plan: every step starts the moment its holders are gone, as many at once as helps."""

from __future__ import annotations

from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Call, Kernel
    from finalstage.plan import Plan, Step
    from finalstage.stack import Layer

    Action = Callable[[Kernel, Layer], None]
    Listener = Callable[["Outcome"], None]

WIDTH = 8
"""Steps at once. They wait for RCU and for disks, and waiting can be shared."""

SLOW = 1.0
"""Seconds after which a step no longer counts in WIDTH: eight that hang must not stop a ninth."""


class Outcome(Value):
    """How a step ended: `error` is None for success, TimeoutError if it never came back."""

    layer: Layer
    error: BaseException | None
    seconds: float


class Closer:
    """Runs plans, and remembers over all of them which calls were left behind.

    A layer whose call hangs is never touched again: whatever else is asked of it would hang too.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._left_behind: dict[str, Call] = {}

    def hangs(self, id: str) -> bool:
        """Whether a call to this layer was left behind and has still not come back."""
        call = self._left_behind.get(id)
        return call is not None and not call.done

    def run(
        self, plan: Plan, until: float, listen: Listener, act: Action, stubborn: bool = False
    ) -> None:
        """Do `act` to each layer in the plan's order, until the time `until`.

        `listen` hears of each outcome as it happens. A step that fails stops those that wait for
        it, unless `stubborn`.
        """
        waiting = {step.layer.id: set(step.after) for step in plan.steps}
        users: dict[str, list[Step]] = {}
        for step in plan.steps:
            for id in step.after:
                users.setdefault(id, []).append(step)
        ready = [s for s in plan.steps if not waiting[s.layer.id] and not self.hangs(s.layer.id)]
        running: dict[Call, Step] = {}
        while ready or running:
            now = self._kernel.now()
            if now >= until:
                break
            quick = sum(now - call.started < SLOW for call in running)
            for step in ready[: WIDTH - quick]:
                running[self._start(step, act)] = step
            del ready[: WIDTH - quick]
            patience = min(SLOW, until - now) if ready else until - now
            finished = self._kernel.wait(running, patience)
            for call in finished:
                step = running.pop(call)
                listen(Outcome(step.layer, call.error, call.finished - call.started))
                if call.error is not None and not stubborn:
                    continue
                for user in users.get(step.layer.id, ()):
                    blockers = waiting[user.layer.id]
                    blockers.discard(step.layer.id)
                    if not blockers and not self.hangs(user.layer.id):
                        ready.append(user)
        for call, step in running.items():
            self._left_behind[step.layer.id] = call
            seconds = self._kernel.now() - call.started
            listen(Outcome(step.layer, TimeoutError(f"no answer in {seconds:.0f} s"), seconds))

    def _start(self, step: Step, act: Action) -> Call:
        return self._kernel.start(step.layer.title, lambda: act(self._kernel, step.layer))
