"""All that `finalstage plan` knows of a machine, or of a part of it; what it shows is drawn from
this in one way or another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finalstage.cli import targets
from finalstage.cli.plan import facts, forecast
from finalstage.cli.plan.facts import Facts
from finalstage.cli.plan.forecast import AFTER_PIVOT, KEEP, NOT_STAGED, Fate
from finalstage.kernel import Kernel
from finalstage.plan import plan
from finalstage.scan import scan
from finalstage.stack import Layer, Stack, circles, covering, io_below, printable, resting


@dataclass(frozen=True)
class Outlook:
    """A stack, and what would become of it.

    `steps` are the layers that are acted on, those of a step all at once, as if each took the same
    time; `step_of` is in which one a layer is, from 1. `context` are layers that only show what the
    others stand on. `targets` are what was asked about, of all if it is empty. `width` is how many
    layers are acted on at once at most. `notes` are what a person should know, `problems` what
    could not be read.
    """

    stack: Stack
    facts: dict[str, Facts]
    fates: dict[str, Fate]
    steps: tuple[tuple[Layer, ...], ...]
    step_of: dict[str, int]
    context: frozenset[str]
    targets: tuple[str, ...]
    width: int
    circles: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def visible(self, everything: bool) -> Stack:
        """Return the stack as it is drawn: without the kernel's own file systems, which nobody
        wants to read about, unless all is wanted or one was asked for."""
        if everything:
            return self.stack
        shown = {each.id for each in self.stack.layers if each.shown or each.id in self.targets}
        return Stack(
            tuple(
                layer.but(below=tuple(id for id in layer.below if id in shown))
                for layer in self.stack.layers
                if layer.id in shown
            )
        )


def look(kernel: Kernel, words: Sequence[str], width: int) -> Outlook:
    """Look at the machine, or at what stands on the targets that `words` name.

    Raises TargetError for what is no target.
    """
    whole = scan(kernel)
    asked = tuple(layer.id for layer in targets.find(kernel, whole, words))
    stack, context = _part(whole, asked)
    seen = facts.gather(kernel, whole)
    staged = forecast.staged_at(kernel)
    fates = forecast.forecast(kernel, whole, seen, staged)
    fates = {layer.id: fates[layer.id] for layer in stack.layers}
    kept = {id for id, fate in fates.items() if fate.what == KEEP}
    order = plan(stack, keep=context | kept).rounds()
    steps = tuple(tuple(step.layer for step in group) for group in order)
    return Outlook(
        stack=stack,
        facts={layer.id: seen.facts[layer.id] for layer in stack.layers},
        fates=fates,
        steps=steps,
        step_of={layer.id: number for number, group in enumerate(steps, 1) for layer in group},
        context=frozenset(context),
        targets=asked,
        width=width,
        circles=tuple(tuple(layer.id for layer in ring) for ring in circles(stack)),
        notes=tuple(_notes(stack, dict(seen.facts), fates)),
        problems=tuple(map(printable, (*whole.problems, *seen.problems))),
    )


def _part(whole: Stack, asked: tuple[str, ...]) -> tuple[Stack, set[str]]:
    """Return what stands on some layers with all that these stand on, and the ids of the latter."""
    if not asked:
        return whole, set()
    above = resting(whole, asked)
    there = covering(whole, above)
    return Stack(tuple(layer for layer in whole.layers if layer.id in there)), there - above


def _notes(stack: Stack, seen: dict[str, Facts], fates: dict[str, Fate]) -> Iterator[str]:
    """Yield what a person should know of the whole."""
    reasons = {fate.why for fate in fates.values()}
    if NOT_STAGED in reasons:
        yield (
            "no tree is staged, and what runs from root cannot close what root stands on:"
            " `finalstage stage` puts one into memory, `finalstage install` does so at each boot"
        )
    if any(why.startswith(AFTER_PIVOT) for why in reasons):
        yield (
            "after the pivot: by the stage in memory, when root is no longer its root; as a child"
            " of an init that stays PID 1 it would seal these, not close them"
        )
    if not any(facts.encryption for facts in seen.values()):
        return
    for layer in stack.layers:
        if layer.kind == "swap" and not seen[layer.id].encrypted and _is_on_disk(stack, layer):
            yield f"{layer.title} is not encrypted: whatever is in memory may get to its disk"


def _is_on_disk(stack: Stack, layer: Layer) -> bool:
    return any(stack.by_id[id].is_disk for id in io_below(stack, (layer.id,)))
