"""What `finalstage check` shows on a terminal: a table, in colours where there are any."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finalstage.cli.problems import printable
from finalstage.cli.readiness import OK, PROBLEM, UNKNOWN, WARNING, Readiness

STYLES = {PROBLEM: "bold red", WARNING: "yellow", UNKNOWN: "magenta", OK: "green"}
MARKS = {PROBLEM: "✗", WARNING: "!", UNKNOWN: "?", OK: "✓"}
PLAIN_MARKS = {PROBLEM: "X", WARNING: "!", UNKNOWN: "?", OK: "+"}
"""For a terminal that has only ASCII."""


def drawn(found: Readiness, console: Console | None = None) -> str:
    """Return it as a table with the verdict below, as wide as the terminal."""
    console = console or Console(highlight=False)
    marks = MARKS if console.encoding.startswith("utf") else PLAIN_MARKS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for title in ("", "what", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for each in found.findings:
        style = STYLES[each.verdict]
        table.add_row(
            Text(f"{marks[each.verdict]} {each.verdict}", style=style),
            Text(each.name, style="bold"),
            Text(each.words),
            Text(printable(each.remedy)),
        )
    weight = PROBLEM if not found.is_ready else WARNING if found.count(WARNING) else OK
    with console.capture() as captured:
        console.print(table)
        console.print(Text(f"finalstage: {found.verdict}", style=STYLES[weight]))
    return captured.get().rstrip("\n")
