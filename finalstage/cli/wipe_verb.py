"""`finalstage wipe-keys`: the panic button. No question, and nothing that could take long.

What it does is done by the tree in memory: finalstage/launcher/wipe.c, finalstage/wipe.py. With
``--all`` and a staged tree the tool's own start leads there at once: cffi_build/one_file.c.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from finalstage.cli import setup
from finalstage.cli.errors import RefusalError, TargetError
from finalstage.cli.parsing import add_verb
from finalstage.cli.problems import Problem
from finalstage.cli.staged import payload
from finalstage.cli.staged.staging import USUAL, stage
from finalstage.cli.targets import find, shown
from finalstage.kernel.linux import LinuxKernel
from finalstage.layers.dm import Dm
from finalstage.layers.mount import Mount
from finalstage.scan import scan
from finalstage.stack import Layer, Stack, io_below, resting

OWN = Path("/run/finalstage-tree")
"""Where a tree is staged if there is none of this very build where it usually is."""

BUTTON = "wipe-keys"
"""The launcher in the tree, by the name under which it does this."""


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        BUTTON,
        help="the panic button: wipe the keys of encrypted devices out of memory, at once",
        description="Asks nothing, writes nothing out, and cannot be undone: what stands on a"
        " device without its key waits or fails. The key of root's device is the last. TARGET is"
        " an encrypted device, what lies on one or what one lies on, by any of its names.",
        examples=(
            ("wipe-keys --all --poweroff", "everything, and off"),
            ("wipe-keys /mnt/backup", "of one disk, by what is mounted from it"),
            ("wipe-keys --all --wait", "stay in memory, and do it when SIGUSR1 comes"),
        ),
    )
    parser.add_argument("targets", metavar="TARGET", nargs="*", help="whose keys to wipe")
    parser.add_argument(
        "--all",
        action="store_true",
        help="all of them, and keyrings of all users, and key files in memory",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait for SIGUSR1 first, in locked memory"
    )
    parser.add_argument(
        "--on-file",
        metavar="PATH",
        help="wait until there is a file PATH, or SIGUSR1; in a directory that root alone may"
        " write to",
    )
    parser.add_argument("--scrub", action="store_true", help="then overwrite free memory, too")
    parser.add_argument("--poweroff", action="store_true", help="then switch the machine off")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterable[str | Problem]:
    """Become the launcher that does it. Raises RefusalError."""
    refuse_nonsense(options)
    if os.geteuid() != 0:
        raise RefusalError("cannot wipe keys: it takes root", "use sudo")
    words = [f"--{name}" for name in ("all", "wait", "scrub", "poweroff") if getattr(options, name)]
    if options.on_file is not None:
        words.append(f"--on-file={options.on_file}")
    if options.targets:
        kernel = LinuxKernel()
        stack = scan(kernel)
        devices = chosen(stack, find(kernel, stack, options.targets), options.targets)
        words.append(f"--devices={','.join(device.device for device in devices)}")
    become(tree() / BUTTON, words)
    return ()


def become(button: Path, words: list[str]) -> None:
    """Be another program from now on. Raises RefusalError if that cannot be."""
    try:
        os.execv(button, [BUTTON, *words])
    except OSError as error:
        raise RefusalError(f"cannot execute {button}: {error.strerror}") from error


def refuse_nonsense(options: argparse.Namespace) -> None:
    """Raise TargetError for words that make no sense together."""
    if not (options.all or options.targets):
        raise TargetError("nothing was named to wipe", "name a target, or all of them by --all")
    if options.all and options.targets:
        raise TargetError(f"--all leaves nothing to name: {shown(options.targets[0])}", "drop one")
    if options.targets and (options.wait or options.on_file is not None):
        raise TargetError(
            "it cannot wait with a target, which may be another device by then", "use --all"
        )


def chosen(stack: Stack, layers: list[Layer], words: list[str]) -> list[Dm]:
    """Return the encrypted devices that are meant by some layers, each once.

    A device itself; what stands on a target; and else the nearest that it lies on. Raises
    RefusalError if that is none, or one that the running system needs and that was not named.
    """
    found: dict[str, Dm] = {}
    for layer, word in zip(layers, words, strict=True):
        devices = keyed(stack, resting(stack, (layer.id,)))
        if not devices:
            devices = nearest_below(stack, layer)
            refuse_shared(stack, layer, word, devices)
        if not devices:
            raise RefusalError(
                f"{shown(word)} is no encrypted device: nor is anything above or below "
                f"{layer.title}",
                "`finalstage plan` shows which are",
            )
        found |= {device.id: device for device in devices}
    return list(found.values())


def keyed(stack: Stack, ids: set[str]) -> list[Dm]:
    """Return those that have a key, or may have one."""
    return [x for x in stack.layers if x.id in ids and isinstance(x, Dm) and x.has_key]


def nearest_below(stack: Stack, layer: Layer) -> list[Dm]:
    """Return the first encrypted devices on each way down from a layer."""
    below = keyed(stack, io_below(stack, (layer.id,)))
    return [
        device
        for device in below
        if not any(
            other is not device and device.id in io_below(stack, (other.id,)) for other in below
        )
    ]


def refuse_shared(stack: Stack, layer: Layer, word: str, devices: list[Dm]) -> None:
    """Raise RefusalError where the running system lies on the devices of a target beside it."""
    own = resting(stack, (layer.id,))
    for device in devices:
        above = resting(stack, (device.id,)) - own
        for mount in stack.layers:
            if isinstance(mount, Mount) and mount.name == "/" and mount.id in above:
                raise RefusalError(
                    f"{shown(word)} lies on {device.title}, and so does {mount.title}, which would "
                    "stand still",
                    f"name {device.name} itself if that is meant",
                )


def tree() -> Path:
    """Return where the tree of this build is in memory; staged now, if it is not. Raises
    RefusalError."""
    try:
        if payload.Entry.of(USUAL, "finalstage") in payload.read_manifest():
            return USUAL
    except OSError:
        pass  # it is not there
    except payload.PayloadError as error:
        raise RefusalError(f"cannot wipe keys: {error}") from error
    stage(OWN, setup.read().carried)
    return OWN
