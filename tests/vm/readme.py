"""`python -m tests.vm.readme`: puts the table of the last test session into README.md."""

from __future__ import annotations

import sys

from tests.vm.cache import BUILD, PROJECT

BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->\n"


def main() -> int:
    """Replace what stands between the marks. Returns 1 if there is no table, or no marks."""
    table, readme = BUILD / "table.md", PROJECT / "README.md"
    if not table.exists():
        print(f"{table} is missing: run make check", file=sys.stderr)
        return 1
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{readme} has no place for it: {BEGIN.strip()} … {END.strip()}", file=sys.stderr)
        return 1
    readme.write_text(f"{before}{BEGIN}\n{table.read_text()}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
