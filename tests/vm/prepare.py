"""`python -m tests.vm.prepare`: build what many guests are made of.

`make check` does that beside `make dist`, which needs one processor only.
"""

from __future__ import annotations

from tests.vm import distro
from tests.vm.guest import NEWER_SUITE, SUITE, guest

ROOTS = ("image-builders", "systemd")
"""As many as are built in the time that the others take."""


def main() -> None:
    """Build it, unless it is there."""
    for suite in (SUITE, NEWER_SUITE):
        guest(suite)
    for kind in ROOTS:
        distro.archive(kind)


if __name__ == "__main__":
    main()
