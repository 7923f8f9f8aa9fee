"""`python -m tests.vm.report_picture`: takes a machine down, and has its report be the README's."""

from __future__ import annotations

import sys

from finalstage.cli import terminal
from finalstage.cli.report import text
from finalstage.cli.report.shutdown import read
from tests.vm import rows
from tests.vm.cache import PROJECT
from tests.vm.test_report import ON_PARTITION, PLACE, partition

PICTURE = PROJECT / "tests" / "vm" / "pictures" / "report.svg"


def main() -> int:
    """Draw the picture, and print the text. Returns 1 if the machine did not go down well."""
    outcome = rows.perform(ON_PARTITION)
    found = read(partition(ON_PARTITION))
    PICTURE.write_text(text.as_svg(found))
    print(text.as_text(found, PLACE, terminal.console()))
    if outcome.problems:
        print(*outcome.problems, sep="\n", file=sys.stderr)
        return 1
    rows.clear(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())
