"""The verbs for people. Exit status: 0 done, 1 refused or failed, 2 not understood."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from finalstage import __version__
from finalstage.cli.errors import RefusalError
from finalstage.cli.staging import stage
from finalstage.cli.stand_in import program, stand_in, standing, step_down

DEFAULT_DIRECTORY = Path("/run/initramfs")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="finalstage",
        description="Closes every storage layer at shutdown, wipes the keys, goes down.",
    )
    found.add_argument("--version", action="version", version=f"finalstage {__version__}")
    verbs = found.add_subparsers(dest="verb", required=True, metavar="VERB")
    staging = verbs.add_parser(
        "stage",
        help="put the final stage into memory, for init to execute at shutdown",
        description="Mounts a tmpfs at DIR, writes the final stage into it, and checks it."
        " systemd-shutdown executes /run/initramfs/shutdown by itself; another init's last"
        " script ends in `exec /run/initramfs/shutdown poweroff`.",
    )
    staging.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=DEFAULT_DIRECTORY,
        help="where to (default: %(default)s)",
    )
    staging.add_argument(
        "--stand-in",
        action=argparse.BooleanOptionalAction,
        help="have systemd execute it in place of systemd-shutdown, or no longer; without"
        " either it stays as it is",
    )
    staging.set_defaults(run=put_in_place)
    return found


def put_in_place(options: argparse.Namespace) -> str:
    """Stage into a directory; then stand in for systemd-shutdown, or no longer, or, where that is
    left open, as before. Return what was done in words. Raises RefusalError."""
    found = program() if options.stand_in else standing()
    done = stage(options.directory)
    if found is None:
        return done
    if options.stand_in is False:
        return f"{done}; {step_down(found)}"
    return f"{done}; {stand_in(found, options.directory)}"


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        print(f"finalstage: {options.run(options)}")
    except RefusalError as error:
        print(f"finalstage: {error}", file=sys.stderr)
        return 1
    return 0
