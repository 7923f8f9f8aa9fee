"""`python -m tests.vm.run WORD…`: let the rows of the matrix whose names have all words happen.

The console is shown as it comes, and everything a row leaves is kept.
"""

from __future__ import annotations

import sys

from tests.vm import rows
from tests.vm.test_matrix import ROWS


def main(words: list[str]) -> int:
    """Returns how many rows had problems, or lists all rows if no word is given."""
    wanted = [row for row in ROWS if words and all(word in row.name for word in words)]
    if not wanted:
        print(*(row.name for row in ROWS), sep="\n")
        return 2
    failed = 0
    for row in wanted:
        print(f"== {row.name}")
        outcome = rows.perform(row, on_console=_show)
        print(*(f"{name}: {value}" for name, value in outcome.summary().items()), sep=", ")
        print(*outcome.problems, f"all it left lies in {row.folder}", sep="\n")
        failed += bool(outcome.problems)
    return failed


def _show(piece: bytes) -> None:
    sys.stdout.write(piece.decode(errors="replace").replace("\r", ""))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
