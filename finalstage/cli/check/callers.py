"""Who will call finalstage when the machine goes down, as what and with what; and would it come to
that."""

from __future__ import annotations

import os
from collections.abc import Iterator

from finalstage.cli.check.readiness import (
    MOST_NAMED,
    OK,
    PROBLEM,
    ROOT_SEES_MORE,
    UNKNOWN,
    WARNING,
    Finding,
    Machine,
    hidden,
)
from finalstage.cli.check.systemd import look as look_at_systemd
from finalstage.cli.errors import RefusalError
from finalstage.cli.install import changes, installation, overlay
from finalstage.cli.install.installation import HOST, PROGRAM, Record
from finalstage.cli.staged import stand_in
from finalstage.cli.staged.staging import SOURCE, USUAL, mount_at

SYSTEMD = "systemd"
OWN_SCRIPT = "none"
INSTALL = "finalstage install"


def init_that_runs() -> str:
    """Return the name of the overlay for the init that runs this machine, "" if it is unknown."""
    try:
        return overlay.detect()
    except RefusalError:
        return SYSTEMD if stand_in.UNITS.is_dir() else ""


def look(machine: Machine) -> Iterator[Finding]:
    """Look at init, and at what was installed for it."""
    try:
        known = installation.records(HOST)
    except (RefusalError, OSError) as error:
        yield _init(machine, machine.init)
        yield Finding("installed", UNKNOWN, f"{error}", INSTALL)
        return
    init = machine.init or (OWN_SCRIPT if OWN_SCRIPT in known else "")
    yield _init(machine, init)
    yield from _installed(init, known)
    if known:
        yield _program()
    if init == SYSTEMD:
        yield from look_at_systemd(machine, SYSTEMD in known)


def _init(machine: Machine, init: str) -> Finding:
    """Say who executes the launcher, and whether as PID 1."""
    if not init:
        if not machine.as_root:
            return hidden("init", "which init runs this machine")
        return Finding("init", PROBLEM, "nobody knows this init", f"{INSTALL} --init NAME")
    launcher = f"{USUAL}/shutdown"
    how = "as a child" if is_child_of(init) else "as PID 1"
    called_by = overlay.read(init).called_by
    return Finding("init", OK, f"{init}: {called_by} executes {launcher} {how}")


def is_child_of(init: str) -> bool:
    """Whether the init that runs stays PID 1 at shutdown."""
    try:
        return overlay.pid_1() in overlay.read(init).child_of
    except OSError:
        return False  # as whoever is not root is told


def _installed(init: str, known: dict[str, Record]) -> Iterator[Finding]:
    """Compare what was installed with what is there."""
    inits = [name for name in known if name not in _builders()]
    if not inits and not (known and init == SYSTEMD):
        staged = (entry := mount_at(USUAL)) is not None and entry.source == SOURCE
        if init == SYSTEMD and staged:
            found = "not installed: nobody stages it when the machine boots next"
            yield Finding("installed", WARNING, found, INSTALL)
        else:
            yield Finding("installed", PROBLEM, "not installed: nobody calls it", INSTALL)
        return
    if inits and init and init not in inits:
        found = f"installed for {', '.join(inits)}, and this machine's init is {init}"
        yield Finding("installed", PROBLEM, found, INSTALL)
    for name, record in known.items():
        yield from _unchanged(record, name == SYSTEMD == init)


def _builders() -> list[str]:
    """Return the overlays that are not for an init: those of image builders."""
    return [name for name in overlay.names() if not overlay.read(name).called_by]


def _unchanged(record: Record, by_unit: bool) -> Iterator[Finding]:
    """Look at what was installed for one overlay. `by_unit`: systemd tells whether it is enabled,
    however the link for that is made."""
    name = record.name
    left = [
        change
        for change in record.changes
        if not change.is_made(HOST) and not (by_unit and isinstance(change, changes.Link))
    ]
    for change in left[:MOST_NAMED]:
        place = f"/{change.path}"
        if os.path.lexists(HOST / change.path):
            yield Finding(
                "installed", PROBLEM, f"{place} is not as it was installed", _mend(change, name)
            )
        else:
            yield Finding("installed", PROBLEM, f"{place} is gone", f"{INSTALL} --init {name}")
    if len(left) > MOST_NAMED:
        found = f"so are {len(left) - MOST_NAMED} more of what was installed for {name}"
        yield Finding("installed", PROBLEM, found, f"{INSTALL} --init {name}")
    if left:
        return
    try:
        of = overlay.read(name)
    except RefusalError:
        return  # of a version that knew one more
    if missing := of.missing(HOST):
        commands = " && ".join(" ".join(command) for command in of.install)
        found = f"{name} does not call it: there is no /{missing[0]}"
        yield Finding("installed", PROBLEM, found, commands or INSTALL)
    else:
        found = f"for {name}, unchanged: {len(record.changes)} files, links and lines"
        yield Finding("installed", OK, found)


def _mend(change: changes.Change, name: str) -> str:
    """Return how to have something as it was installed, where it was changed: what is somebody
    else's now is never overwritten."""
    try:
        change.refuse(HOST, change)
    except RefusalError:
        return f"mv /{change.path} /root && {INSTALL} --init {name}"
    return f"{INSTALL} --init {name}"


def _program() -> Finding:
    """Compare this program with the one that will be run when the machine goes down."""
    place = f"/{PROGRAM}"
    try:
        same = changes.digest(HOST / PROGRAM) == changes.digest(installation.this_program())
    except (RefusalError, OSError) as error:
        return Finding(
            "program", UNKNOWN, f"whether {place} is this program: {error}", ROOT_SEES_MORE
        )
    if same:
        return Finding("program", OK, f"{place} is this one")
    found = f"{place}, which looks after the tree, is another one than this"
    return Finding("program", WARNING, found, f"{place} check; or install this one")
