"""Rows in which a real init goes down by its own command, with finalstage installed or without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.vm.cache import PROJECT
from tests.vm.expected import Expected
from tests.vm.rows import Row
from tests.vm.stacks import with_init

TOOL = PROJECT / "dist" / "finalstage"
CLOSED = Expected(says=("remaining 0, keys left 0",))


# /run may forbid programs. It sees by itself which init this is.
INSTALLED = """
install -m 755 /run/tray/finalstage /root/finalstage
/root/finalstage install
rm /root/finalstage"""


def down(
    init: str,
    command: str,
    verb: str = "poweroff",
    *,
    root: str = "",
    name: str = "",
    earlier: str = "",
    programs: tuple[Any, ...] = (),
    **fields: Any,
) -> Row:
    """A machine that has booted the root `root`, by default that named like its init, goes down by
    its init's own `command`. `earlier` is shell text that is run before finalstage is installed;
    where there is none, that is done but once for all such rows.
    """
    stack = with_init(root or init)
    staging = f"{earlier}\n{INSTALLED}"
    if not earlier:
        stack = replace(stack, prepared=staging, brought=(TOOL,))
    return Row(
        f"{root or init}: {name or command}",
        stack,
        command,
        verb,
        staging=staging if earlier else "",
        programs=(TOOL, *programs) if earlier else programs,
        **{"expected": CLOSED, **fields},
    )


def alone(kind: str, command: str, verb: str = "poweroff") -> Row:
    """The same without finalstage."""
    return Row(f"control: {kind} alone, {command}", with_init(kind), command, verb, staging="")
