"""systemd as the one who calls finalstage: its unit, systemd-shutdown, and what that is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from finalstage.cli.check.readiness import OK, PROBLEM, UNKNOWN, WARNING, Finding, Machine
from finalstage.cli.errors import RefusalError
from finalstage.cli.staged import stand_in
from finalstage.cli.staged.staging import USUAL

UNIT = "finalstage.service"
OF_UNIT = ("LoadState", "UnitFileState", "ActiveState", "NeedDaemonReload")
OF_MANAGER = ("DefaultTimeoutStopUSec", "LogLevel", "LogTarget")
"""What become_shutdown() in src/core/main.c makes arguments of."""


def look(machine: Machine, is_installed: bool) -> Iterator[Finding]:
    """Look at it. Its unit matters where it was installed."""
    if is_installed:
        yield from _unit(show(UNIT, OF_UNIT))
    yield from _stand_in(machine)


def show(unit: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return properties of a unit, or of systemd itself for ""; none where it does not answer."""
    command = ["systemctl", "show", *([unit] if unit else []), f"--property={','.join(names)}"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=stand_in.PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    pairs = (line.partition("=") for line in ran.stdout.splitlines())
    return {name: value for name, _, value in pairs}


def _unit(said: dict[str, str]) -> Iterator[Finding]:
    if not said:
        yield Finding(
            "unit", UNKNOWN, f"systemctl says nothing of {UNIT}", f"systemctl status {UNIT}"
        )
        return
    load, enabled, active = (said.get(name, "") for name in OF_UNIT[:3])
    if load == "masked":
        found, remedy = f"{UNIT} is masked", f"systemctl unmask {UNIT} && finalstage install"
        yield Finding("unit", PROBLEM, found, remedy)
    elif load != "loaded":
        found = f"systemd does not have {UNIT}: {load}"
        yield Finding("unit", PROBLEM, found, "systemctl daemon-reload && finalstage install")
    elif enabled not in ("enabled", "enabled-runtime", "static", "alias"):
        found = f"{UNIT} is {enabled or 'not enabled'}: it will not stage when the machine boots"
        yield Finding("unit", PROBLEM, found, f"systemctl enable {UNIT}")
    elif active != "active":
        found = f"{UNIT} is {active}: nobody looks after the tree as the machine goes down"
        yield Finding(
            "unit", PROBLEM if active == "failed" else WARNING, found, f"systemctl restart {UNIT}"
        )
    elif said.get("NeedDaemonReload") == "yes":
        found = f"{UNIT} has changed since systemd has read it"
        yield Finding("unit", WARNING, found, "systemctl daemon-reload")
    else:
        yield Finding("unit", OK, f"{UNIT} is enabled and active")


def _stand_in(machine: Machine) -> Iterator[Finding]:
    """Who is executed in the end: systemd-shutdown, or the launcher in its place."""
    configuration = machine.setup.configuration
    wanted = configuration.options.stand_in and configuration.sets("systemd.stand-in")
    standing = stand_in.standing()
    there = [each for each in stand_in.PROGRAMS if each.is_file()]
    if not there:
        found = f"there is no {stand_in.PROGRAMS[0]}, which would execute it"
        yield Finding("caller", PROBLEM, found, "install systemd-shutdown: it is part of systemd")
        return
    if wanted and not standing:
        try:
            stand_in.program()
        except RefusalError as error:
            remedy = "set stand-in = false below [systemd] in /etc/finalstage.toml"
            yield Finding("caller", PROBLEM, f"{error}", remedy)
            return
    if standing and not _is_staged(standing):
        found = f"the launcher of an older tree stands in for {standing}"
        yield Finding("caller", PROBLEM, found, "finalstage stage")
        return
    if standing or wanted:
        when = "" if standing else ", from when the machine goes down"
        found = f"systemd executes it in place of {standing or there[0].resolve()}{when}"
    else:
        found = f"systemd executes {there[0].resolve()}, which executes {USUAL}/shutdown"
    yield Finding("caller", OK, f"{found}, with the verb{_arguments(show('', OF_MANAGER))}")


def _is_staged(standing: Path) -> bool:
    """Whether what stands in is the launcher of the tree that is there now."""
    try:
        return os.path.samefile(standing, USUAL / "shutdown")
    except OSError:
        return False


def _arguments(said: dict[str, str]) -> str:
    """Return what it is told besides the verb, as far as systemd says."""
    timeout, level, target = (said.get(name, "") for name in OF_MANAGER)
    if not (timeout and level and target):
        return ""
    return f" and --timeout={timeout} --log-level={level} --log-target={target}"
