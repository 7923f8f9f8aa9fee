"""`finalstage unpack`: the tree as files in a directory, for those who build an image."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finalstage.cli import setup
from finalstage.cli.errors import RefusalError
from finalstage.cli.parsing import add_verb
from finalstage.cli.problems import Problem
from finalstage.cli.staged import payload
from finalstage.cli.staged.carried import Carried

REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EACCES: "choose a place that you may write to",
    errno.EPERM: "choose a place that you may write to",
    errno.EROFS: "choose a place that can be written to",
}


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "unpack",
        help="write the final stage into a directory, for an initramfs or an image",
        description="Writes the final stage into DIR, which must be empty or not there, and checks"
        " it. It takes no root and mounts nothing. In a machine that is booted from what it lies"
        " in, `DIR/shutdown --stage /run/initramfs` puts it into memory.",
        examples=(
            ("unpack ./tree", "the bare tree, for an initramfs"),
            ("unpack --configured ./tree", "with what is set up on this machine"),
        ),
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="where to")
    parser.add_argument(
        "--configured",
        action="store_true",
        help="with the configuration and the hooks of this machine, for which the image is built",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str | Problem]:
    """Unpack into a directory, and say it. Raises RefusalError."""
    carried = Carried()
    if options.configured:
        found = setup.read()
        yield from found.problems
        carried = found.carried
    yield unpack(options.directory, carried)


def unpack(directory: Path, carried: Carried) -> str:
    """Write a tree that carries something into an empty or new directory, and return what was done
    in words.

    What fails leaves it empty, or not there, as it was. Raises RefusalError.
    """
    refusal = f"cannot unpack into {directory}"
    try:
        is_new = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            if payload.differences(directory) or not carried.is_in(directory):
                raise RefusalError(f"{refusal}: it is not empty", "choose an empty or new one")
            return f"{directory} holds the final stage already, complete"
        _write(directory, carried, is_new)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "")
        raise RefusalError(f"{refusal}: {error.strerror} ({error.filename})", remedy) from error
    except payload.PayloadError as error:
        raise RefusalError(f"{refusal}: {error}") from error
    return f"wrote {payload.tree_size() + carried.size >> 10} KiB into {directory}"


def _write(directory: Path, carried: Carried, is_new: bool) -> None:
    try:
        if is_new:
            directory.chmod(0o755)
        payload.write_tree(directory)
        carried.write(directory)
        if wrong := payload.differences(directory):
            raise payload.PayloadError(f"what was written differs: {wrong[0]}")
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else os.unlink(path)
        if is_new:
            directory.rmdir()
        raise
