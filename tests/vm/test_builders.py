"""Machines that have booted by an initramfs with finalstage in it, and go down."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm.builders import APPENDED, BUILDERS, initramfs, run, set_up
from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.part import seldom
from tests.vm.rows import Row
from tests.vm.stacks import LUKS, booted_by
from tests.vm.states import INITRAMFS

CLOSED = Expected(says=("remaining 0, keys left 0",))


def down(builder: str, path: str, verb: str = "poweroff", **fields: str) -> Row:
    """A row: nothing is staged but what the initramfs has brought."""
    stack = booted_by(builder, BUILDERS[builder].command_line)
    return Row(f"{builder}: {path}", stack, path, verb, staging="", expected=CLOSED)


# The kernel has unpacked the tree into the initramfs itself, where PID 1 stays.
IN_INITRAMFS = replace(LUKS, name="LUKS, cpio", root=INITRAMFS, initramfs=APPENDED)

ROWS = [
    *seldom(down("dracut", "systemctl poweroff")),
    down("initramfs-tools", "systemctl poweroff"),
    Row("cpio", IN_INITRAMFS, "exec /shutdown {verb}", staging="", expected=CLOSED),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_everything(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


# What dracut-shutdown.service runs in the real root, at shutdown.
RESTORE = """
mount -t tmpfs -o noexec tmpfs /run
mkdir /run/initramfs
: >/run/initramfs/.need_shutdown
{{ {stage}; }} >&2
/usr/lib/dracut/dracut-initramfs-restore
ls -d /run/initramfs/bin || true
head -n 1 /run/initramfs/shutdown | head -c 10"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root with dracut's own programs, and an initramfs where they look for it."""
    root = tmp_path_factory.mktemp("dracut") / "root"
    set_up(root, "dracut")
    shutil.copy(initramfs("dracut"), root / f"boot/initrd.img-{os.uname().release}")
    yield root
    shutil.rmtree(root)


def restored(root: Path, stage: str) -> str:
    """What is at /run/initramfs after dracut would have put its own shutdown tree there."""
    return run(root, RESTORE.format(stage=stage))


@pytest.mark.parametrize(
    "stage",
    ["finalstage unpack /tree; /tree/shutdown --stage /run/initramfs", "finalstage stage"],
    ids=["by the initramfs", "by the unit"],
)
def test_dracut_does_not_restore_its_own_tree_over_it(machine: Path, stage: str) -> None:
    assert restored(machine, stage).startswith("\x7fELF")


def test_control_dracut_restores_its_own_tree(machine: Path) -> None:
    assert restored(machine, ":").splitlines() == ["/run/initramfs/bin", "#!/bin/sh"]
