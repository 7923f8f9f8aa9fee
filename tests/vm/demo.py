"""`python -m tests.vm.demo`: one machine, shut down twice, and what is left of it each time."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from tests.vm import rows, states
from tests.vm.layers import Layer
from tests.vm.rows import DIRECT, ORACLE, REMOUNT, Outcome, Row
from tests.vm.stacks import MAIN, Stack

OURS = Row("demo: finalstage", MAIN, DIRECT)
THEIRS = Row("demo: remount read-only", MAIN, REMOUNT, to=ORACLE)


def main() -> int:
    """Draw the stack, shut it down both ways, and compare. Returns 1 if finalstage left a thing."""
    out = Console(highlight=False)
    out.print("\n[bold]A machine with this below its root file system[/]", drawing(MAIN))
    states.built(MAIN)
    out.print("\n[bold]is shut down by finalstage[/]")
    ours = rows.perform(OURS, on_console=_lines(out))
    out.print("\n[bold]and, once more, by remount read-only and power-off, as is usual[/]")
    theirs = rows.perform(THEIRS, on_console=_lines(out))
    out.print()
    out.print(verdict({"finalstage": ours, "remount read-only": theirs}))
    if ours.problems:
        out.print(*ours.problems, f"All it left lies in {OURS.folder}", sep="\n", style="red")
        return 1
    rows.clear(ours)
    rows.clear(theirs)
    return 0


def drawing(stack: Stack) -> Tree:
    """The stack as a tree, with what is closed first at the top and the disks at the bottom."""
    names = {layer.name: layer for layer in stack.layers}

    def provider(path: str) -> Layer | None:
        return next((names[part] for part in path.split("/") if part in names), None)

    def grow(tree: Tree, layer: Layer) -> None:
        branch = tree.add(layer.title)
        for path in layer.below:
            lower = provider(path)
            if lower:
                grow(branch, lower)
            else:
                branch.add(path.replace("/", " "))

    used = [provider(path) for layer in stack.layers for path in layer.below]
    whole = Tree("", hide_root=True)
    for layer in reversed(stack.layers):
        if layer not in used:
            grow(whole, layer)
    return whole


def verdict(outcomes: dict[str, Outcome]) -> Table:
    """One column for each outcome, one line for each question that its owner would ask."""
    table = Table("", *outcomes, title="What is left")
    results = list(outcomes.values())

    def line(question: str, answer: Callable[[Outcome], tuple[bool, str]]) -> None:
        answers = [answer(each) for each in results]
        table.add_row(question, *(f"[{'green' if ok else 'red'}]{text}" for ok, text in answers))

    line("disks", lambda of: (not of.verdict.unclean, "unclean" if of.verdict.unclean else "clean"))
    line("files", lambda of: (not of.verdict.damaged, of.summary()["files"]))
    line("copies of the key in RAM", lambda of: (not of.copies.of_keys, str(of.copies.of_keys)))
    line("machine ended by", lambda of: (of.end.kind == of.row.expected_end, of.end.kind))
    table.add_row("seconds", *(f"{each.end.seconds:.1f}" for each in results))
    return table


def _lines(out: Console) -> Callable[[bytes], None]:
    """A receiver of console output that prints whole lines as they come."""
    rest = b""

    def receive(piece: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if text := line.decode(errors="replace").strip():
                out.print(f"  {text}", markup=False)

    return receive


if __name__ == "__main__":
    sys.exit(main())
