"""`finalstage install` and `uninstall`: have this machine's init call it, or no longer."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finalstage.cli.errors import RefusalError
from finalstage.cli.install import overlay
from finalstage.cli.install.installation import HOST, install, records, uninstall
from finalstage.cli.parsing import add_verb
from finalstage.cli.problems import Problem
from finalstage.cli.staged.staging import USUAL, unstage
from finalstage.cli.staged.stand_in import standing, step_down
from finalstage.cli.staged.verb import put


def add_to(verbs: Any) -> None:
    """Add the parsers of both verbs."""
    parser = add_verb(
        verbs,
        "install",
        help="have an init or an image builder of this machine hand over to it",
        description="Puts the files for an init or an image builder in place, and this program at"
        " /usr/local/sbin/finalstage, and stages at once. Twice is harmless; what is not"
        " finalstage's own is never overwritten.",
        examples=(
            ("install --dry-run", "what would be changed"),
            ("install", "for the init that runs this machine"),
            ("install --init dracut", "for the builder of its initramfs, too"),
            ("install --init systemd --root /mnt/image", "into an image"),
        ),
    )
    parser.add_argument(
        "--init",
        metavar="NAME",
        help=f"for which: {overlay.known()} (default: the init that runs this machine)",
    )
    _add_common(parser)
    parser.set_defaults(run=run_install)

    parser = add_verb(
        verbs,
        "uninstall",
        help="undo it, without a trace",
        description="Takes back all that was installed, and the stage out of memory.",
        examples=(
            ("uninstall --dry-run", "what would be taken back"),
            ("uninstall", "all of it"),
            ("uninstall --init dracut", "only what was installed for that one"),
        ),
    )
    parser.add_argument("--init", metavar="NAME", help="only what was installed for this one")
    _add_common(parser)
    parser.set_defaults(run=run_uninstall)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=Path,
        default=HOST,
        help="of the machine or image that is changed (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def run_install(options: argparse.Namespace) -> Iterator[str | Problem]:
    """Install for an init; stage at once on the machine that runs. Raises RefusalError."""
    wanted = overlay.read(options.init or overlay.detect())
    stages = wanted.stages and options.root == HOST
    yield from install(wanted, options.root, options.dry_run)
    if stages and options.dry_run:
        yield f"would stage into {USUAL}"
    elif stages:
        yield from put(USUAL)


def run_uninstall(options: argparse.Namespace) -> Iterator[str]:
    """Take back what was installed; and once that is all, the stage too. Raises RefusalError."""
    names = [options.init] if options.init else []
    left = yield from uninstall(names, options.root, options.dry_run)
    if options.root == HOST and not options.dry_run and not records(HOST):
        if found := standing():
            yield step_down(found)
        if unstage(USUAL):
            yield f"unmounted {USUAL}"
    if left:
        remedy = "remove by hand what you do not need"
        raise RefusalError(f"left as it is: {'; '.join(left)}", remedy)
