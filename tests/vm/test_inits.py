"""Real root file systems with a real init: what becomes of them by that init's own commands."""

from __future__ import annotations

import shlex
import tomllib
from typing import Any

import pytest

from tests.vm.cache import PROJECT
from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.rows import Row
from tests.vm.stacks import with_init

TOOL = PROJECT / "dist" / "finalstage"
OVERLAYS = PROJECT / "initramfs-overlay"
CLOSED = Expected(says=("remaining 0, keys left 0",))


def installed(init: str) -> str:
    """Shell text that puts finalstage on a machine, as the page of its init says."""
    overlay = OVERLAYS / init
    recipe = tomllib.loads((overlay / "install.toml").read_text())
    lines = ["install -D -m 755 /run/tray/finalstage /usr/local/sbin/finalstage"]
    for file in sorted(path for path in (overlay / "root").rglob("*") if path.is_file()):
        place = f"/{file.relative_to(overlay / 'root')}"
        lines.append(f"mkdir -p $(dirname {place})")
        lines.append(f"printf %s {shlex.quote(file.read_text())} >{place}")
        lines.append(f"chmod {file.stat().st_mode & 0o777:o} {place}")
    for place, target in recipe.get("links", {}).items():
        lines.append(f"mkdir -p $(dirname /{place}); ln -s {target} /{place}")
    lines += [shlex.join(command) for command in recipe.get("commands", {}).get("install", [])]
    return "\n".join(lines)


def down(init: str, path: str, verb: str = "poweroff", *, root: str = "", **fields: Any) -> Row:
    """A row: a machine that has booted the root `root` goes down by its init's command `path`."""
    how = path.removeprefix("exec ")
    return Row(
        f"{root or init}: {how}",
        with_init(root or init),
        path,
        verb,
        staging=installed(init),
        programs=(TOOL,),
        expected=CLOSED,
        **fields,
    )


ROWS = [
    down("systemd", "systemctl poweroff"),
    down("systemd", "systemctl reboot", "reboot"),
    down("systemd", "systemctl halt", "halt"),
    down("systemd", "systemctl poweroff", root="systemd-257"),
    down("systemd", "systemctl reboot", "reboot", root="systemd-257"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_everything(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


def alone(kind: str, path: str, verb: str = "poweroff") -> Row:
    """A row: the same without finalstage."""
    return Row(f"control: {kind} alone: {path}", with_init(kind), path, verb, staging="")


CONTROLS = [
    alone("systemd", "systemctl poweroff"),
    alone("systemd-257", "systemctl poweroff"),
    alone("sysvinit", "poweroff"),
    alone("busybox", "poweroff"),
    alone("openrc", "openrc-shutdown --poweroff now"),
    alone("runit", "poweroff"),
    alone("finit", "poweroff"),
]


@pytest.mark.parametrize("row", CONTROLS, ids=lambda row: row.slug)
def test_an_init_alone_leaves_the_key_in_ram(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert outcome.copies.halves >= 2
    assert not outcome.verdict.unclean
