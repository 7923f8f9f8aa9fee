"""`finalstage wipe-keys`: which devices are meant, and what makes no sense. None is wiped here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from finalstage import cli
from finalstage.cli.errors import RefusalError
from finalstage.cli.wipe_verb import chosen
from finalstage.kernel import Target
from finalstage.scan import scan
from finalstage.stage import OLD_ROOT, OWN_MOUNTS
from tests.sim.kernel import SimKernel
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine
from tests.sim.stacks import disk, main_stack

TOOL = Path(__file__).resolve().parents[2] / "dist/finalstage"
BUTTON = """
mount -t tmpfs run /run
mkdir /run/initramfs
printf '#!/bin/sh\necho "pressed: $*"\n' >/run/initramfs/wipe-keys
chmod 755 /run/initramfs/wipe-keys
exec "$@"
"""
"""Has a /run of its own, with something in place of the button, and executes what it is given."""

LINEAR, CRYPT = (Target(0, 8, "linear"),), (Target(0, 8, "crypt"),)


def machine() -> Machine:
    """ext4 on LVM on LUKS on RAID1 as root, with a volume /srv beside it, and one with LUKS in it
    as /vault; /home on a LUKS of its own; a disk with nothing on it."""
    found = main_stack()
    found.devices |= {
        "253:2": Dm("dm-2", "253:2", ("253:0",), title="vg-srv", targets=LINEAR),
        "253:3": Dm("dm-3", "253:3", ("253:0",), title="vg-vault", targets=LINEAR),
        "253:4": Dm("dm-4", "253:4", ("253:3",), title="vault", targets=CRYPT, keyed=True),
        "8:0": disk("sda", "8:0"),
        "253:5": Dm("dm-5", "253:5", ("8:0",), title="home", targets=CRYPT, keyed=True),
        "8:16": disk("sdb", "8:16"),
    }
    found.mounts += [
        Mount(30, 10, "/oldroot/home", "253:5"),
        Mount(31, 10, "/oldroot/srv", "253:2"),
        Mount(32, 10, "/oldroot/vault", "253:4"),
        Mount(33, 10, "/oldroot/bound", "253:1"),
    ]
    return found


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("cryptroot", {"253:0", "253:4"}),  # and what stands on it
        ("vault", {"253:4"}),
        ("home", {"253:5"}),
        ("sda", {"253:5"}),
        ("/home", {"253:5"}),
        ("/vault", {"253:4"}),  # and not what that lies on, too
        ("vg-vault", {"253:4"}),
        ("md0", {"253:0", "253:4"}),
        ("/", {"253:0"}),
        ("vg-root", {"253:0"}),
    ],
)
def test_which_devices_are_meant(name: str, devices: set[str]) -> None:
    stack = scan(SimKernel(machine()), OWN_MOUNTS, OLD_ROOT)
    (layer,) = (each for each in stack.layers if each.name == name)
    assert {each.device for each in chosen(stack, [layer], [name])} == devices


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/srv", "/srv lies on crypt cryptroot, and so does ext4 /, which would stand still"),
        ("vg-srv", "name cryptroot itself if that is meant"),
        ("/bound", "/bound lies on crypt cryptroot, and so does ext4 /"),
        ("sdb", "sdb is no encrypted device: nor is anything above or below disk sdb"),
    ],
)
def test_what_is_refused(name: str, said: str) -> None:
    stack = scan(SimKernel(machine()), OWN_MOUNTS, OLD_ROOT)
    (layer,) = (each for each in stack.layers if each.name == name)
    with pytest.raises(RefusalError, match=said) as refused:
        chosen(stack, [layer], [name])
    assert refused.value.status == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "nothing was named to wipe; name a target, or all of them by --all"),
        (("--scrub",), 2, "nothing was named to wipe"),
        (("--all", "/home"), 2, "--all leaves nothing to name: /home; drop one"),
        (("/home", "--wait"), 2, "cannot wait with a target"),
        (("/home", "--on-file", "/run/now"), 2, "cannot wait with a target"),
        (("--all",), 1, "cannot wipe keys: it takes root; use sudo"),
        (("a b\nc",), 1, "cannot wipe keys: it takes root"),
    ],
)
def test_what_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["wipe-keys", *words]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--all --wait --on-file now", "pressed: --all --wait --on-file now"),
        ("--all --scrub --on-file=now", "pressed: --all --scrub --on-file=now"),
        ("--wait --on-file now", "nothing was named to wipe"),
        ("--all --on-file", "expected one argument"),
        ("--all --on-file now --harder", "not understood: --harder"),
    ],
)
def test_the_button_is_pressed_before_anything_is_unpacked(words: str, said: str) -> None:
    """Where it could not be, the real one would refuse a file that is not a whole path."""
    command = [str(TOOL), "wipe-keys", *words.split()]
    ran = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", BUTTON, "sh", *command],
        capture_output=True,
        text=True,
    )
    assert said in ran.stdout + ran.stderr
