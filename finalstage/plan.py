"""Stack to plan: which layers to close, and which must be gone before. A pure function.

A plan is data: it can be printed, drawn and tested. It says what must come before what, not what
comes when; so as much runs at once as the stack allows.
"""

from __future__ import annotations

from finalstage.stack import covering, resting, without_circles
from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

    from finalstage.stack import Layer, Stack


class Step(Value):
    """Close `layer` once the layers in `after`, its holders, are gone."""

    layer: Layer
    after: tuple[str, ...] = ()


class Plan(Value):
    """Steps, each behind those that it waits for. `kept` are layers that stay, of those on which
    the layers of steps stand."""

    steps: tuple[Step, ...]
    kept: tuple[Layer, ...] = ()

    def rounds(self) -> list[list[Step]]:
        """Return the steps as they would run if each took the same time."""
        round_of: dict[str, int] = {}
        found: list[list[Step]] = []
        for step in self.steps:
            number = max((round_of[id] + 1 for id in step.after if id in round_of), default=0)
            round_of[step.layer.id] = number
            if number == len(found):
                found.append([])
            found[number].append(step)
        return found


def plan(stack: Stack, circles: bool = True, keep: Set[str] = frozenset()) -> Plan:
    """Return the plan that closes everything that closes but `keep`, and flushes what these stood
    on.

    Layers in a circle do not wait for one another: one of them may yield, and what does not is
    named as what remains. What is below waits for all of them. Without `circles` they are left
    out, and what is below them too.
    """
    outside = stack.depths
    straight = without_circles(stack)
    above = straight.above
    depth = straight.depths
    # A partition on an array does not close, but has to be flushed before the array does.
    wanted = covering(stack, resting(stack, (layer.id for layer in stack.closing)))
    wanted -= keep
    order = sorted(
        (x for x in stack.layers if x.id in wanted and (circles or x.id in outside)),
        key=lambda layer: depth[layer.id],
    )
    return Plan(
        steps=tuple(
            Step(
                layer=layer,
                after=tuple(id for id in above[layer.id] if id in wanted),
            )
            for layer in order
        ),
        kept=tuple(layer for layer in stack.layers if layer.id in keep),
    )
