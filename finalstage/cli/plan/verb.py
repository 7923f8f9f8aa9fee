"""`finalstage plan`: what lies on what, and what would be done about it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any

from finalstage.cli import config, inside, terminal
from finalstage.cli.output import Output
from finalstage.cli.parsing import add_verb
from finalstage.cli.plan import document, dot, picture, text
from finalstage.cli.plan.looking import Looking
from finalstage.cli.plan.outlook import Outlook, look
from finalstage.cli.problems import Problem
from finalstage.cli.sizes import counted

EXAMPLES = (
    ("plan", "the whole machine"),
    ("plan /home vg/swap", "what stands on these, and what they stand on"),
    ("plan UUID=4f2a-91c0", "any name will do"),
    ("plan --svg >plan.svg", "a picture"),
    ("plan --dot | dot -Tpdf >plan.pdf", "a graph"),
    ("plan --json | jq '.layers[].fate'", "for programs"),
)


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "plan",
        help="show what lies on what, and the steps in which it would be closed",
        description="Shows the layers of storage as a tree, from the disks up to the mounts, then"
        " the steps in which they would be closed at shutdown, and what would be sealed rather than"
        " closed. Changes nothing.",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "targets",
        metavar="TARGET",
        nargs="*",
        help="only what stands on this: a mount point, a device, a volume as VG/LV, a file behind a"
        " loop device or a swap area, a UUID or a label",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, for programs")
    form.add_argument("--dot", action="store_true", help="as a graph, for Graphviz's dot")
    form.add_argument("--svg", action="store_true", help="as a picture")
    form.add_argument("--schema", action="store_true", help="the JSON's schema, and nothing else")
    parser.add_argument(
        "--all",
        action="store_true",
        help="the kernel's own file systems too, such as /proc; JSON always has them",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str | Problem]:
    """Look, and show it. Raises TargetError for what is no target."""
    if options.schema:
        yield Output(inside.schema(document.SCHEMA))
        return
    kernel = Looking()
    width = config.read(config.PLACE).options.width
    outlook = look(kernel.as_kernel, options.targets, width)
    yield from show(outlook, unseen(kernel), options)


def show(
    outlook: Outlook, unseen: list[Problem], options: argparse.Namespace
) -> Iterator[str | Problem]:
    """Yield it in the form that is wanted, and what could not be seen."""
    if options.json:
        yield Output(document.write(outlook, [problem.what for problem in unseen]))
    elif options.dot:
        yield Output(dot.draw(outlook, options.all))
    elif options.svg:
        yield Output(picture.draw(outlook, options.all))
    else:
        yield from map(Output, text.draw(outlook, terminal.console(), options.all))
    yield from unseen


def unseen(kernel: Looking) -> list[Problem]:
    """Say in one line what was not shown to us."""
    words = []
    if kernel.silent:
        words.append(f"the tables of {counted(len(kernel.silent), 'mapped device')}")
    if kernel.closed:
        words.append(f"open files of {counted(len(kernel.closed), 'process', 'es')}")
    if not words:
        return []
    remedy = "root sees more" if os.geteuid() else "see whether it runs in a container"
    return [Problem("not seen", 0, " and ".join(words), remedy)]
