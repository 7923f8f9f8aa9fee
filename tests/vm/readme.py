"""`python -m tests.vm.readme`: puts the table of the last test session into README.md."""

from __future__ import annotations

import sys

from tests.vm.cache import BUILD, PROJECT

README = PROJECT / "README.md"


def main() -> int:
    """Replace the table. Returns 1 if there is none, or no place for it."""
    table = BUILD / "table.md"
    if not table.exists():
        print(f"{table} is missing: run make check", file=sys.stderr)
        return 1
    return put("rows", table.read_text())


def put(name: str, text: str) -> int:
    """Replace what stands in README.md between the marks of a name. Returns 1 if it has none."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = README.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        print(f"{README} has no place for it: {begin.strip()} … {end.strip()}", file=sys.stderr)
        return 1
    README.write_text(f"{before}{begin}\n{text}\n{end}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
