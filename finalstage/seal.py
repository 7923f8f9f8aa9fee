"""What to do about encrypted devices that would not close: no key stays in them.

All of them go through each step together, so that one which hangs costs the others no time. Wiping
comes before everything that lets I/O go on: a file system that does not like what it then sees may
panic, and by then no key must be left.
"""

from __future__ import annotations

from errno import ENXIO

from finalstage.bounded import bind, together
from finalstage.free import free
from finalstage.layers import dm
from finalstage.stack import io_below, resting, rounds, within
from finalstage.value import Value
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from finalstage.kernel import Kernel
    from finalstage.stack import Stack

SUSPEND_SECONDS = 3.0
HASTY_SECONDS = 0.3
"""The same where all has to be over within a second. What hangs for longer is seen to later."""

ANSWER_SECONDS = 3.0
"""For calls that wait for no I/O."""

LEAST_SECONDS = 1.0
"""For wiping what is suspended, even if the time is over."""

LOOK_SECONDS = 1.0
"""Between two looks whether a device that would not be suspended is so at last."""


class Sealed(Value):
    """What became of a device's key: `error` is empty if it is gone."""

    layer: dm.Dm
    error: str = ""


def seal(
    kernel: Kernel,
    stack: Stack,
    hung: set[str],
    until: float,
    say: Callable[[str], None],
    let_errors_flow: bool = True,
) -> list[Sealed]:
    """Make sure that no device in the stack holds a key any more; say of each how that went.

    Without `let_errors_flow` a device whose key is wiped stays suspended. That is for a PID 1
    which is not ours, and runs from what is sealed: it can wait for its next page for ever, while
    an error instead of the page would kill it, and panic the kernel.

    As long as there is one that cannot be suspended, nothing is worth more than to wait for it,
    up to the time `until`.
    """
    sealing = Sealing(kernel, stack, until, let_errors_flow)
    sealing.clear_inactive()
    sealing.suspend_all(silent=io_below(stack, hung))
    sealing.wipe()
    sealing.insist(stack, hung, say)
    return sealing.found()


def seal_at_once(
    kernel: Kernel,
    stack: Stack,
    groups: Iterable[Container[str]],
    until: float,
    say: Callable[[str], None],
) -> list[Sealed]:
    """Do the same in a hurry with some devices, by their ids, one group after the other; say of
    each how that went.

    Nothing is written out or frozen before, since that may take any time. All stay suspended, as
    without `let_errors_flow`.
    """
    groups = tuple(groups)
    sealing = Sealing(kernel, stack, until, let_errors_flow=False)
    sealing.layers = [
        layer for layer in sealing.layers if any(layer.id in group for group in groups)
    ]
    sealing.clear_inactive()
    for group in groups:
        active = [layer for layer in sealing.active() if layer.id in group]
        sealing.suspend_hard(active, HASTY_SECONDS)
        sealing.wipe()
    stuck = {layer.id for layer in sealing.active()}
    sealing.insist(within(stack, io_below(stack, stuck) | resting(stack, stuck)), set(), say)
    return sealing.found()


class Sealing:
    """The devices that hold a key, the topmost first."""

    def __init__(
        self, kernel: Kernel, stack: Stack, until: float, let_errors_flow: bool = True
    ) -> None:
        self.kernel = kernel
        self.stack = stack
        self.until = until
        self.let_errors_flow = let_errors_flow
        devices = [layer for layer in stack.layers if isinstance(layer, dm.Dm)]
        self.layers = [layer for layer in devices if layer.has_key]
        # What stands on those that have to be wiped: known when their inactive tables are dropped.
        self.above: list[dm.Dm] = []
        # Those whose inactive tables would not be dropped.
        self.stale: set[str] = set()
        # Those that would not be suspended, and came back to say so: why.
        self.refused: dict[str, str] = {}
        # Of those that are done, why a key may remain in them.
        self.errors: dict[str, str] = {}

    def clear_inactive(self) -> None:
        """Drop inactive tables: `key wipe` does not reach the keys in them."""
        stale = [layer for layer in self.layers if layer.inactive_table]
        failed = self.each(stale, lambda layer: self.kernel.dm_clear(layer.device), ANSWER_SECONDS)
        for layer in stale:
            if failed[layer.id]:
                self.stale.add(layer.id)
            elif not layer.has_live_key:
                self.errors[layer.id] = ""

    def suspend_all(self, silent: set[str]) -> None:
        """Suspend all, round by round from the top: what is written on the way down passes those
        below.

        First with the file system above frozen and queued I/O written: some are mounted where we
        cannot see them. Where that does not come back, or the device is one of `silent`, below
        something that hangs, without either. Below one that does not come back at all the others
        would not either, round by round: the time is better spent on freeing what they wait for.
        """
        tried: set[str] = set()
        keyed = [layer for layer in self.layers if layer.id not in self.errors]
        self.above = self.standing_on({layer.id for layer in keyed})
        active = [layer for layer in keyed + self.above if not layer.suspended]
        for group in rounds(self.stack, active):
            stuck = {layer.id for layer in self.active() if layer.id in tried}
            below = io_below(self.stack, stuck)
            hopeful = [layer for layer in group if layer.id not in below]
            tried |= {layer.id for layer in hopeful}
            calm = [layer for layer in hopeful if layer.id not in silent]
            self.each(
                calm,
                lambda layer: self.kernel.dm_suspend(layer.device, lockfs=True, flush=True),
                SUSPEND_SECONDS,
            )
            self.suspend_hard([layer for layer in self.active() if layer in hopeful])

    def standing_on(self, keyed: set[str]) -> list[dm.Dm]:
        """Return the devices without a key that pass down what is written to some with one."""
        devices = (layer for layer in self.stack.layers if isinstance(layer, dm.Dm))
        return [
            layer
            for layer in devices
            if layer.targets and not layer.has_key and io_below(self.stack, (layer.id,)) & keyed
        ]

    def suspend_hard(self, layers: list[dm.Dm], patience: float = SUSPEND_SECONDS) -> None:
        """Suspend without flushing or freezing anything. It still waits for I/O in flight, so the
        topmost comes first: what is suspended below it would hold its I/O."""
        self.each(
            [layer for group in rounds(self.stack, layers) for layer in group],
            self.suspend_one_hard,
            patience,
        )

    def suspend_one_hard(self, layer: dm.Dm) -> None:
        """Do that with one of them, and take in why not if it is refused."""
        self.refused.pop(layer.id, None)
        try:
            self.kernel.dm_suspend(layer.device, lockfs=False, flush=False)
        except OSError as error:
            self.refused[layer.id] = describe(error)
            raise

    def active(self) -> list[dm.Dm]:
        """Return those that are not done and not suspended, by looking. What is gone holds no
        key."""
        found = []
        for layer in self.layers:
            if layer.id in self.errors:
                continue
            try:
                if not self.kernel.dm_info(layer.device).suspended:
                    found.append(layer)
            except OSError as error:
                if error.errno == ENXIO:
                    self.errors[layer.id] = ""
                else:
                    found.append(layer)
        return found

    def is_suspended(self, layer: dm.Dm) -> bool:
        """Whether a device is suspended now."""
        try:
            return self.kernel.dm_info(layer.device).suspended
        except OSError:
            return False

    def wipe(self) -> None:
        """Wipe the keys of all that are suspended, then put error tables in their place.

        An error table also ends what waits for the device: an array above it would have reboot(2)
        hang. It destroys the old tables, and with them the key of an integrity target, for which
        there is no message, and that of an inactive one that would not be dropped.
        """
        active = {layer.id for layer in self.active()}
        ready = [
            layer for layer in self.layers if layer.id not in active and layer.id not in self.errors
        ]
        above = [layer for layer in self.above if self.is_suspended(layer)]
        # However little time is left: what is suspended already has to lose its key.
        until = max(self.until, self.kernel.now() + LEAST_SECONDS)
        wiped = self.each(
            ready, lambda layer: dm.wipe_keys(self.kernel, layer), ANSWER_SECONDS, until
        )
        for layer in ready:
            if any(target.type in dm.WITHOUT_MESSAGE for target in layer.targets):
                wiped[layer.id] = wiped[layer.id] or "there is no message for it"
            if layer.id in self.stale:
                wiped[layer.id] = wiped[layer.id] or "its inactive table would not be dropped"
        to_replace = [layer for layer in ready if self.let_errors_flow or wiped[layer.id]]
        replaced = self.each(
            to_replace,
            lambda layer: dm.replace_by_error(self.kernel, layer),
            SUSPEND_SECONDS,
            until,
        )
        for layer in ready:
            failed = wiped[layer.id] and replaced[layer.id]
            self.errors[layer.id] = f"cannot wipe it: {wiped[layer.id]}" if failed else ""
        if self.let_errors_flow:
            self.let_errors_through(above)

    def let_errors_through(self, layers: list[dm.Dm]) -> None:
        """Put error tables into suspended devices without a key too.

        A suspended pool keeps its thin volumes suspended in a way of its own, until it goes on with
        its own table: pool_presuspend() in drivers/md/dm-thin.c, dm_resume() in dm.c. So it does,
        and is the last: it still writes its metadata, which has to fail.
        """
        pools = [layer for layer in layers if "thin-pool" in layer.types]
        others = [layer for layer in layers if layer not in pools]
        self.each(pools, lambda layer: self.kernel.dm_resume(layer.device), ANSWER_SECONDS)
        for group in (others, pools):
            self.each(group, lambda layer: dm.replace_by_error(self.kernel, layer), SUSPEND_SECONDS)

    def insist(self, stack: Stack, hung: set[str], say: Callable[[str], None]) -> None:
        """Free what would not be suspended from what it waits for in a stack, and wipe it too."""
        stuck = self.active()
        if not stuck:
            return
        free(self.kernel, stack, hung | {layer.id for layer in stuck}, self.until, say)
        self.suspend_hard(self.active())
        self.wipe()
        self.wait_for_the_rest()

    def wait_for_the_rest(self) -> None:
        """Wait for suspends that still hang: a disk may come back, or run out of time."""
        while self.kernel.now() < self.until and any(
            layer.id not in self.refused for layer in self.active()
        ):
            self.kernel.sleep(min(LOOK_SECONDS, self.until - self.kernel.now()))
            self.wipe()

    def found(self) -> list[Sealed]:
        """Say of each device how it went."""
        return [Sealed(layer, self.errors.get(layer.id, self.why(layer))) for layer in self.layers]

    def why(self, layer: dm.Dm) -> str:
        """Return why a device is not suspended."""
        reason = self.refused.get(layer.id, "")
        if reason:
            return f"it cannot be suspended: {reason}"
        return "it cannot be suspended, something below does not answer"

    def each(
        self,
        layers: list[dm.Dm],
        act: Callable[[dm.Dm], None],
        patience: float,
        until: float | None = None,
    ) -> dict[str, str]:
        """Do something to several devices at once; return the errors by their ids."""
        calls = {layer.id: bind(act, layer) for layer in layers}
        return together(self.kernel, calls, patience, self.until if until is None else until)
