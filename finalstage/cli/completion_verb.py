"""`finalstage completion`: what makes a shell complete the command line of this program.

The scripts are made of the parser when the program is built: cffi_build/completions.py.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finalstage.cli import inside
from finalstage.cli.errors import RefusalError
from finalstage.cli.output import Output
from finalstage.cli.parsing import add_verb

SCRIPTS = {
    "bash": "usr/local/share/bash-completion/completions/finalstage",
    "zsh": "usr/local/share/zsh/site-functions/_finalstage",
    "fish": "etc/fish/completions/finalstage.fish",
}
"""Where each shell looks for what an administrator installs. fish heeds /usr/local only where
$XDG_DATA_DIRS names it, which a login on a console does not set: its share/config.fish."""


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "completion",
        help="print the script by which a shell completes this command line",
        description="Prints the script for a shell, by default the one in $SHELL. `finalstage"
        " install` puts all of them where the shells look; this is for a program that is not"
        " installed.",
        examples=(
            ("completion bash >/tmp/completion && . /tmp/completion", "for this shell, bash"),
            ("completion fish | source", "for this shell, fish"),
        ),
    )
    parser.add_argument(
        "shell", metavar="SHELL", nargs="?", choices=tuple(SCRIPTS), help=", ".join(SCRIPTS)
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Print a script. Raises RefusalError."""
    shell = options.shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SCRIPTS:
        which = f"{shell} is none of them" if shell else "there is no $SHELL"
        raise RefusalError(f"which shell? {which}", f"name one: {', '.join(SCRIPTS)}")
    yield Output(script(shell).rstrip("\n"))


def script(shell: str) -> str:
    """Return the script for a shell. Raises RefusalError where it is not built."""
    place = inside.folder("completions", "dist/completions") / shell
    if not place.is_file():
        raise RefusalError(f"there is no {place}", "run make dist")
    return place.read_text()
