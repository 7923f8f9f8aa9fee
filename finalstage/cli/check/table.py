"""What `finalstage check` shows on a terminal: a table, in colours where there are any."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finalstage.cli import terminal
from finalstage.cli.check.readiness import OK, PROBLEM, UNKNOWN, WARNING, Readiness
from finalstage.cli.problems import printable

STYLES = {PROBLEM: "bold red", WARNING: "yellow", UNKNOWN: "magenta", OK: "green"}
MARKS = {PROBLEM: "✗", WARNING: "!", UNKNOWN: "?", OK: "✓"}
PLAIN_MARKS = {PROBLEM: "X", WARNING: "!", UNKNOWN: "?", OK: "+"}
"""For a terminal that has only ASCII."""


def drawn(found: Readiness, console: Console | None = None) -> str:
    """Return it as a table, what to do below what was found, and the verdict at its end."""
    console = console or terminal.console()
    has_all_letters = console.encoding.startswith("utf")
    marks, arrow = (MARKS, "→") if has_all_letters else (PLAIN_MARKS, "->")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in found.findings:
        style = STYLES[each.verdict]
        words = Text(each.words)
        if each.remedy:
            words.append(f"\n{arrow} {printable(each.remedy)}", style="bold")
        table.add_row(
            Text(f"{marks[each.verdict]} {each.verdict}", style=style), Text(each.name), words
        )
    weight = PROBLEM if not found.is_ready else WARNING if found.count(WARNING) else OK
    with console.capture() as captured:
        console.print(table)
        console.print(Text(f"finalstage: {found.verdict}", style=STYLES[weight]))
    return captured.get().rstrip("\n")
