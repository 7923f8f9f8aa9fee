"""`python -m tests.bench.readme`: puts the tables and pictures of the last measurement into
README.md."""

from __future__ import annotations

import sys

from tests.bench import report
from tests.bench.results import FILE, load
from tests.vm.readme import put


def main() -> int:
    """Replace tables and pictures. Returns 1 if there is nothing, or no place for it."""
    results = load()
    if not results:
        print(f"{FILE} is missing: run make bench", file=sys.stderr)
        return 1
    report.draw(results)
    return put("bench", report.markdown(results))


if __name__ == "__main__":
    sys.exit(main())
