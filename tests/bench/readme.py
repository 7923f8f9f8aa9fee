"""`python -m tests.bench.readme`: puts the tables and pictures of the last measurement into
README.md."""

from __future__ import annotations

import sys

from tests.bench import report
from tests.bench.results import FILE, load
from tests.vm.cache import PROJECT

BEGIN, END = "<!-- bench -->\n", "<!-- end of bench -->\n"


def main() -> int:
    """Replace what stands between the marks. Returns 1 if there is nothing, or no marks."""
    readme = PROJECT / "README.md"
    results = load()
    if not results:
        print(f"{FILE} is missing: run make bench", file=sys.stderr)
        return 1
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{readme} has no place for it: {BEGIN.strip()} … {END.strip()}", file=sys.stderr)
        return 1
    report.draw(results)
    readme.write_text(f"{before}{BEGIN}\n{report.markdown(results)}\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
