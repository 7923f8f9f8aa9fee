"""What the administrator of this machine has set up: the configuration, and programs of their own.

Whatever is wrong with it is named, and the rest is used: nobody's shutdown hangs on a typing error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from finalstage import moments
from finalstage.cli import config
from finalstage.cli.config import Configuration
from finalstage.cli.problems import Problem, WrongError
from finalstage.cli.report import report_file
from finalstage.cli.staged import hooks
from finalstage.cli.staged.carried import Carried
from finalstage.handover.options import CONFIGURATION, shown
from finalstage.kernel.linux import LinuxKernel

PLACE = "report.place"


@dataclass(frozen=True)
class Setup:
    """The configuration, what the tree carries because of it, the places of programs in that, and
    all that is wrong."""

    configuration: Configuration
    carried: Carried
    hooks: tuple[str, ...]
    problems: tuple[Problem, ...]


def read(place: Path | None = None) -> Setup:
    """Read all of it, from another file than the usual one if need be; what cannot be used is left
    out, and is in `problems`."""
    configuration = config.read(place or config.PLACE)
    carried = Carried()
    problems = [*configuration.problems, *_share(configuration)]
    if text := _told(configuration, problems).text:
        carried.put(CONFIGURATION.lstrip("/"), text.encode(), 0o644)
    for path in configuration.options.hooks_carry:
        try:
            carried.add(Path(path))
        except WrongError as error:
            problems.append(configuration.problem("hooks.carry", str(error), error.remedy))
    directory = Path(configuration.options.hooks_directory)
    places, wrong = hooks.add_to(carried, directory)
    return Setup(configuration, carried, tuple(places), (*problems, *wrong))


def _told(configuration: Configuration, problems: list[Problem]) -> Configuration:
    """Return what the tree is told of a configuration: where it says on what a file for the report
    lies, which the stage could not find out."""
    place = configuration.values.get(PLACE)
    if not isinstance(place, str):
        return configuration
    try:
        told = report_file.told(LinuxKernel(speaks=False), place)
    except WrongError as error:
        problems.append(configuration.problem(PLACE, str(error), error.remedy))
        return configuration
    return replace(configuration, values={**configuration.values, PLACE: told})


def _share(configuration: Configuration) -> Iterator[Problem]:
    """Yield a problem where one program would take the time of all."""
    each, budget = configuration.options.hooks_timeout, configuration.options.budget
    together = budget * moments.SHARE
    if configuration.sets("hooks.timeout") and each > together:
        what = f"all hooks of a moment have {together:g}s, an eighth of timeout, together"
        remedy = f"set timeout to {shown(each / moments.SHARE)}, or hooks.timeout lower"
        yield configuration.problem("hooks.timeout", what, remedy)
