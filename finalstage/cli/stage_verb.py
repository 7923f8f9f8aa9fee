"""`finalstage stage`: into memory with the tree, and standing in for systemd-shutdown or not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finalstage.cli.staging import stage
from finalstage.cli.stand_in import program, stand_in, standing, step_down

DEFAULT_DIRECTORY = Path("/run/initramfs")


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = verbs.add_parser(
        "stage",
        help="put the final stage into memory, for init to execute at shutdown",
        description="Mounts a tmpfs at DIR, writes the final stage into it, and checks it."
        " systemd-shutdown executes /run/initramfs/shutdown by itself; another init's last"
        " script ends in `exec /run/initramfs/shutdown poweroff`.",
    )
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=DEFAULT_DIRECTORY,
        help="where to (default: %(default)s)",
    )
    parser.add_argument(
        "--stand-in",
        action=argparse.BooleanOptionalAction,
        help="have systemd execute it in place of systemd-shutdown, or no longer; without"
        " either it stays as it is",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Stage into a directory; then stand in for systemd-shutdown, or no longer, or, where that is
    left open, as before. Say what was done. Raises RefusalError."""
    found = program() if options.stand_in else standing()
    done = stage(options.directory)
    if found is None:
        yield done
    elif options.stand_in is False:
        yield f"{done}; {step_down(found)}"
    else:
        yield f"{done}; {stand_in(found, options.directory)}"
