"""`finalstage close`: takes down stacks by hand, in a rescue shell or on a running system."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from finalstage.cli import targets
from finalstage.cli.apart import LOOK_SECONDS, STOPS, was_left_alone
from finalstage.cli.close import running, selection
from finalstage.cli.close.closing import (
    STOP_SECONDS,
    Closing,
    Result,
    find_holders,
    look,
    write_out,
)
from finalstage.cli.close.neighbours import Neighbours
from finalstage.cli.close.progress_line import audience
from finalstage.cli.close.selection import Selection
from finalstage.cli.errors import RefusalError, TargetError
from finalstage.cli.output import Output, Trouble
from finalstage.cli.parsing import add_verb
from finalstage.close import Closer
from finalstage.handover.systemd import time_span
from finalstage.kernel import Kernel, faulty
from finalstage.kernel.linux import LinuxKernel
from finalstage.stack import Layer

TIMEOUT = "90s"
SHORTEST, LONGEST = 1.0, 86400.0

HOLDERS_PAUSES = (0.0, 0.1, 0.4)
"""Seconds between looks for processes that hold something: udev does so for a moment."""


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "close",
        help="take down what stands on a device, a volume or a mount point, and that itself",
        description="Unmounts, switches off and removes all that stands on each TARGET, from the"
        " top down, and TARGET itself. It says what that is, and asks. Nothing is closed if"
        " anything of it is in use.",
        examples=(
            ("close /mnt/backup", "a mount, with all that is mounted on it"),
            ("close --below vg/data", "a volume, and what nothing else stands on"),
            ("close --dry-run --all", "what could be closed, beside the running system"),
        ),
    )
    parser.add_argument(
        "targets",
        metavar="TARGET",
        nargs="*",
        help="a mount point, a device, a volume as VG/LV, a file behind a loop device or a swap"
        " area, a UUID or a label",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="all storage but what the running system stands on",
    )
    parser.add_argument(
        "--below",
        action="store_true",
        help="also what TARGET stands on, as far as nothing else does",
    )
    parser.add_argument(
        "--running-system",
        action="store_true",
        help="also what the running system stands on, as far as it lets go of it",
    )
    parser.add_argument(
        "--lossy",
        action="store_true",
        help="also what cannot be written out any more, as on a disk that was pulled out",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be closed")
    parser.add_argument(
        "--timeout",
        metavar="SPAN",
        type=_span,
        default=TIMEOUT,
        help="how long it may take, such as 30s or 5min (default: %(default)s)",
    )
    parser.set_defaults(run=run, apart=True)


def _span(word: str) -> float:
    seconds = time_span(word)
    if seconds is None or not SHORTEST <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{word!r} is no time span from 1s to 24h")
    return seconds


def run(options: argparse.Namespace) -> Iterator[str]:
    """Close what is meant; say what is about to be closed, and what came of it. Raises
    RefusalError; KeyboardInterrupt if somebody has stopped it."""
    if bool(options.targets) == options.all:
        raise TargetError("name each TARGET, or say --all, not both")
    if os.geteuid() != 0:
        raise RefusalError("cannot close anything: only root may", "call it with sudo")
    kernel = faulty.wrap(LinuxKernel(), os.environ)
    yield from close(kernel, options)


def close(kernel: Kernel, options: argparse.Namespace) -> Iterator[str]:
    """Do so with a kernel."""
    choice = choose(kernel, options)
    yield from map(Trouble, choice.selection.stack.problems)
    yield from _refuse(choice.refusals)
    chosen, neighbours = choice.selection, choice.neighbours
    if not chosen.closing:
        yield from _announce_kept(chosen)
        yield from _only_written_out(kernel, chosen, options)
        return
    yield from _held(kernel, chosen)
    yield from _announce(chosen, neighbours)
    if options.dry_run:
        return
    if not options.yes:
        _ask(len(chosen.closing))
        again = choose(kernel, options)
        if again.selection.ids != chosen.ids:
            raise RefusalError("cannot close it: it is not the same any more", "call it again")
        yield from _refuse(again.refusals)
        chosen, neighbours = again.selection, again.neighbours
        yield from _held(kernel, chosen)
    started = kernel.now()
    with neighbours.locked(chosen.closing):
        result = _run(kernel, chosen, options)
    yield from map(Trouble, neighbours.settle(result.closed))
    yield from _outcome(result, kernel.now() - started)


@dataclass(frozen=True)
class Choice:
    """What is to be closed, who else has to do with it, and why it must not be."""

    selection: Selection
    neighbours: Neighbours
    refusals: list[str]


def choose(kernel: Kernel, options: argparse.Namespace) -> Choice:
    """Return what is to be closed, as the machine is now."""
    stack = look(kernel)
    if stack is None or stack.blind:
        raise RefusalError("cannot look which devices there are", "is /sys mounted?")
    needed = running.needs(stack)
    if options.running_system:
        needed = {id: need for id, need in needed.items() if need.is_absolute}
    if options.all:
        chosen = selection.of_all(stack, options.below, needed)
    else:
        found = targets.find(kernel, stack, options.targets)
        chosen = selection.of_targets(stack, found, options.below, needed)
    neighbours = Neighbours(kernel, stack)
    refusals = selection.refusals(kernel, chosen, needed)
    return Choice(chosen, neighbours, refusals + neighbours.refusals(chosen.closing))


def _refuse(reasons: Iterable[str]) -> Iterator[str]:
    """Say all reasons, the last one as what it is refused by, if there are any."""
    lines = list(reasons)
    yield from map(Trouble, lines[:-1])
    if lines:
        raise RefusalError(lines[-1])


def _held(kernel: Kernel, chosen: Selection) -> Iterator[str]:
    """Refuse what processes hold."""
    held: dict[str, list[str]] | None = {}
    for pause in HOLDERS_PAUSES:
        kernel.sleep(pause)
        held = find_holders(kernel, chosen.stack, chosen.ids)
        if not held:
            break
    if held is None:
        yield Trouble("cannot see which processes hold something: one does not answer")
        return
    layers = chosen.stack.by_id
    yield from _refuse(
        f"cannot close {layers[id].title}: held by {', '.join(who)}; end that, or have it let go"
        for id, who in held.items()
    )


def _announce(chosen: Selection, neighbours: Neighbours) -> Iterator[str]:
    """Say what is going to be closed, in which order, and what stays."""
    yield Output("To be closed, in this order:")
    for number, steps in enumerate(chosen.plan(chosen.stack).rounds(), 1):
        titles = [step.layer.title for step in steps if step.layer.id in chosen.ids]
        yield from (Output(f"{number:4}  {title}") for title in titles)
    if chosen.flushed:
        yield Output(f"Then written out: {_titles(chosen.flushed)}")
    yield from _announce_kept(chosen)
    yield from map(Trouble, selection.losses(chosen))
    yield from map(Trouble, neighbours.returning(chosen.closing))


def _announce_kept(chosen: Selection) -> Iterator[str]:
    """Say what stays, and why."""
    for layer, why in chosen.kept:
        yield Output(f"{layer.title} stays: {why}")


def _only_written_out(
    kernel: Kernel, chosen: Selection, options: argparse.Namespace
) -> Iterator[str]:
    """Write out the devices of what is not open, or not any more. Raises RefusalError."""
    if options.dry_run or not chosen.flushed:
        yield "nothing to close"
        return
    yield from _refuse(write_out(kernel, chosen.flushed, kernel.now() + options.timeout))
    yield f"nothing to close; written out: {_titles(chosen.flushed)}"


def _ask(number: int) -> None:
    """Ask whether that is right. RefusalError if it is not, or nobody is there to ask."""
    if not sys.stdin.isatty():
        raise RefusalError("cannot ask whether to close them: this is no terminal", "say --yes")
    sys.stdout.flush()
    try:
        answer = input(f"Close {'this layer' if number == 1 else f'these {number} layers'}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise RefusalError("nothing was closed")


class Stop:
    """Whether somebody wants it to stop: by a signal, or since nobody waits for it any more. What
    is under way has a while then. A second signal ends it at once."""

    def __init__(self, closer: Closer) -> None:
        self.closer = closer
        self.parent = os.getppid()
        self.told: float | None = None

    def __enter__(self) -> Stop:
        self.before = {each: signal.signal(each, self.hear) for each in STOPS}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self.before.items():
            signal.signal(each, handler)

    def hear(self, _number: int, _frame: object) -> None:
        """Take in a signal."""
        now = time.monotonic()
        if self.told is None:
            self.told = now
            self.closer.ends_by = self.closer.kernel.now() + STOP_SECONDS
        elif now - self.told >= LOOK_SECONDS:
            raise KeyboardInterrupt

    def __call__(self) -> bool:
        return self.told is not None or was_left_alone(self.parent)


def _run(kernel: Kernel, chosen: Selection, options: argparse.Namespace) -> Result:
    with audience(kernel, chosen) as shown:
        closer = Closer(kernel, shown.say)
        with Stop(closer) as stop:
            until = kernel.now() + options.timeout
            return Closing(kernel, chosen, closer, shown, until, stop, options.lossy).run()


def _outcome(result: Result, seconds: float) -> Iterator[str]:
    """Say what came of it. Raises RefusalError where something stays, KeyboardInterrupt where it
    was stopped."""
    closed, left = len(result.closed), len(result.left)
    yield from map(Trouble, result.problems)
    if left and result.closed:
        yield f"closed: {_titles(result.closed)}"
    if result.stopped and left:
        yield Trouble(f"not closed: {_titles(result.left)}")
        raise KeyboardInterrupt
    if left:
        raise RefusalError(
            f"closed {closed} of {closed + left} layers", "call it again, it goes on"
        )
    if result.problems:
        raise RefusalError("all is closed, but not all of it may have been written")
    yield f"closed {closed} layer{'s' if closed != 1 else ''} in {seconds:.1f} s"


def _titles(layers: Iterable[Layer]) -> str:
    return ", ".join(layer.title for layer in layers)
