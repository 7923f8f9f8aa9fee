"""`finalstage report`: what happened at the last shutdown."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from finalstage.cli import inside, terminal
from finalstage.cli.errors import RefusalError
from finalstage.cli.output import Output
from finalstage.cli.parsing import add_verb
from finalstage.cli.problems import Problem
from finalstage.cli.report import places, text
from finalstage.cli.report.places import Found
from finalstage.cli.report.shutdown import NoReportError, Shutdown, read

EXAMPLES = (
    ("report", "what happened at the last shutdown"),
    ("report --svg >last.svg", "a picture of it"),
    ("report --json | jq '.lines[].words'", "for programs"),
    ("report /dev/sdb3", "of another machine, from its disk"),
)


def add_to(verbs: Any) -> None:
    """Add the parser of this verb."""
    parser = add_verb(
        verbs,
        "report",
        help="show what happened at the last shutdown",
        description="Shows the report that the stage has kept in an EFI variable, in pstore, or on"
        " the partition or in the file that the configuration names (report.place), the latest of"
        " them; or the one in FILE.",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a copy of a report, the device that it is on, or a kernel's log from pstore",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON, for programs")
    form.add_argument("--svg", action="store_true", help="as a picture: a timeline")
    form.add_argument("--schema", action="store_true", help="the JSON's schema, and nothing else")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> Iterator[str | Problem]:
    """Print it. Raises RefusalError where there is none."""
    if options.schema:
        yield Output(inside.schema(text.SCHEMA))
        return
    found = [_in_file(options.file)] if options.file else places.everywhere()
    shutdown = next((each.shutdown for each in found if each.shutdown), None)
    if shutdown is None:
        raise _refusal(found)
    place = next(each.place for each in found if each.shutdown)
    for each in found:
        if each.problem and not each.takes_root:
            yield Problem(each.place, 0, each.problem, "what is shown is from elsewhere")
    yield Output(_shown(options, shutdown, place))


def _shown(options: argparse.Namespace, shutdown: Shutdown, place: str) -> str:
    if options.json:
        return text.as_json(shutdown, place)
    if options.svg:
        return text.as_svg(shutdown).rstrip("\n")
    return text.as_text(shutdown, place, terminal.console())


def _in_file(file: str) -> Found:
    """Read a file. Raises RefusalError if there is no report in it."""
    try:
        return Found(file, read(places.content(file)))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "use sudo" if isinstance(error, PermissionError) else "name another file"
    except NoReportError as error:
        reason = str(error)
        remedy = "name a copy of a report, the device that it is on, or a kernel's log from pstore"
    raise RefusalError(f"cannot show a report from {file!r}: {reason}", remedy)


def _refusal(found: list[Found]) -> RefusalError:
    """Say why there is nothing to be shown."""
    if any(each.takes_root for each in found):
        where = ", ".join(each.place for each in found if each.takes_root)
        return RefusalError(f"cannot look for a report in {where}: it takes root", "use sudo")
    if wrong := [f"{each.place}: {each.problem}" for each in found if each.problem]:
        return RefusalError(
            f"no report can be read: {'; '.join(wrong)}",
            "the next shutdown writes a new one, where it can",
        )
    return RefusalError(
        "no report of a shutdown is kept on this machine",
        "finalstage.toml(5) says where it can be (report.place); else only the console has it",
    )
