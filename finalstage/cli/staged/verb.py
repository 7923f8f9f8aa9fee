"""`finalstage stage`: into memory with the tree, and standing in for systemd-shutdown or not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finalstage.cli import config, setup
from finalstage.cli.errors import RefusalError
from finalstage.cli.parsing import add_verb
from finalstage.cli.problems import Problem
from finalstage.cli.staged.staging import USUAL, stage, unstage
from finalstage.cli.staged.stand_in import is_stopping, program, stand_in, standing, step_down
from finalstage.cli.staged.tree_owner import other_tree


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "stage",
        help="put the final stage into memory, for init to execute at shutdown",
        description="Mounts a tmpfs at DIR, writes the final stage into it, and checks it."
        " systemd-shutdown executes /run/initramfs/shutdown by itself; another init's last"
        " script ends in `exec /run/initramfs/shutdown poweroff`.",
        examples=(
            ("stage", "bring the tree up to date, after a change of the configuration"),
            ("stage --stand-in", "have systemd execute it in place of systemd-shutdown"),
            ("stage /mnt", "somewhere else, to look at it"),
        ),
    )
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=USUAL,
        help="where to (default: %(default)s)",
    )
    parser.add_argument(
        "--stand-in",
        action=argparse.BooleanOptionalAction,
        help="have systemd execute it in place of systemd-shutdown, or no longer; without"
        " either the configuration says it, and else it stays as it is",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str | Problem]:
    """Stage; then stand in for systemd-shutdown, or no longer, or, where nothing says that, as
    before. Say what was done. Raises RefusalError."""
    yield from put(options.directory, options.stand_in)


def put(directory: Path, wanted: bool | None = None) -> Iterator[str | Problem]:
    """Stage into a directory with all that was set up for this machine. `wanted`: whether to stand
    in for systemd-shutdown; the configuration says it for a machine that goes down."""
    found = setup.read()
    yield from found.problems
    if owner := other_tree(directory, found.configuration.options):
        yield _leave(directory, owner, wanted)
        return
    if wanted is None and found.configuration.sets("systemd.stand-in"):
        wanted = found.configuration.options.stand_in
        if wanted and not is_stopping():
            wanted = None
    place = program() if wanted else standing()
    done = stage(directory, found.carried)
    if place is None:
        yield done
    elif wanted is False:
        yield f"{done}; {step_down(place)}"
    else:
        yield f"{done}; {stand_in(place, directory)}"


def _leave(directory: Path, owner: str, wanted: bool | None) -> str:
    """Leave the directory to another tree of shutdown, which is then not stood in for either."""
    if wanted:
        raise RefusalError(
            f"cannot stand in for systemd-shutdown: {owner}'s tree of shutdown would never run",
            f'set shutdown-tree = "finalstage" below [systemd] in {config.PLACE}',
        )
    place = standing()
    words = [f"left {directory} to {owner}, as systemd.shutdown-tree says"]
    words += [step_down(place)] if place else []
    words += ["unmounted what was staged there"] if unstage(directory) else []
    return "; ".join(words)
