"""Inits other than systemd: what becomes of a machine by their own commands, with finalstage, and
with what is left of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.inits import CLOSED, TOOL, down
from tests.vm.part import seldom
from tests.vm.rows import Row
from tests.vm.stacks import MAIN

# PID 1 stays, and holds root.
SEALED = Expected(
    says=("read-only ext4 /", "wiped the key of crypt crypt", "remaining 3, keys left 0")
)

# dinit has no package. A program does its last step, on a root whose PID 1 is a shell; all that
# comes of `dinitctl start` is that the service's command is run.
DINIT = """
for each in dinit shutdown; do cp /run/tray/dinit /sbin/$each; chmod 755 /sbin/$each; done
printf '#!/bin/sh\\nexec /usr/local/sbin/finalstage stage\\n' >/bin/dinitctl
cp /run/tray/finalstage /root
chmod 755 /bin/dinitctl /root/finalstage
/root/finalstage install --init dinit"""
STAND_IN = "/usr/lib/finalstage/stand-in on"


def down_by_dinit(how: str, verb: str, name: str = "", **fields: Any) -> Row:
    """A row: as PID 1, dinit stops its services and becomes what does the rest."""
    return Row(
        f"dinit: {name or verb}",
        MAIN,
        f"exec /sbin/dinit {how}",
        verb,
        staging=DINIT,
        programs=(TOOL,),
        tools=("dinit",),
        **{"expected": CLOSED, **fields},
    )


ROWS = [
    *seldom(
        down("sysvinit", "poweroff"),
        down("sysvinit", "reboot", "reboot"),
        down("sysvinit", "shutdown -h -H now", "halt"),
    ),
    down("busybox", "poweroff"),
    *seldom(
        down("busybox", "reboot", "reboot"),
        down("busybox", "halt", "halt"),
        down("openrc", "openrc-shutdown --poweroff now", expected=SEALED),
        down("openrc", "openrc-shutdown --reboot now", "reboot", expected=SEALED),
        down("openrc", "shutdown -h -H now", "halt", root="openrc-sysvinit"),
        down("runit", "poweroff", expected=SEALED),
        down("runit", "reboot", "reboot", expected=SEALED),
        down("finit", "poweroff", expected=SEALED),
        down("finit", "reboot", "reboot", expected=SEALED),
        down("s6-linux-init", "poweroff"),
        down("s6-linux-init", "reboot", "reboot"),
        down_by_dinit("-p", "poweroff"),
    ),
    # Whoever else executes it meanwhile gets the original, by any name.
    down_by_dinit(
        "-r",
        "reboot",
        before=(
            STAND_IN,
            "/sbin/shutdown -r | grep -q 'Issuing shutdown command'",
            "ln -s shutdown /sbin/reboot-now; reboot-now | grep -q 'Issuing shutdown command'",
        ),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_what_its_init_allows(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


# What may have become of finalstage since it was staged. That the scripts see each of these is
# shown for all of them in tests/unit/test_overlays.py.
MISSING = "rm /usr/local/sbin/finalstage; umount /run/initramfs"
BROKEN = """
head -c 1000 /run/initramfs/shutdown >/run/launcher
cat /run/launcher >/run/initramfs/shutdown"""
HALF = "find /run/initramfs/usr -name 'libpython*' -exec sh -c ': >{}' ';'"
HALF_GOES = "rm -r /run/initramfs/usr"
TO_THE_ORIGINAL = "finalstage: leaving it to the original"
NOTHING = Expected()


def saying(*words: str) -> Expected:
    return Expected(says=words)


ALONE = [
    *seldom(
        down(
            "sysvinit",
            "poweroff",
            name="broken",
            before=(BROKEN,),
            expected=saying("Will now halt"),
        )
    ),
    down("busybox", "poweroff", name="half written", before=(HALF,), expected=NOTHING),
    *seldom(
        down(
            "openrc",
            "openrc-shutdown --poweroff now",
            name="missing",
            before=(MISSING,),
            expected=saying("Sending the final kill signal"),
        ),
        down(
            *("runit", "reboot", "reboot"),
            name="half written",
            before=(HALF,),
            expected=saying("- runit: leave stage: /etc/runit/3"),
        ),
        down("finit", "reboot", "reboot", name="broken", before=(BROKEN,), expected=NOTHING),
    ),
    # This one stages while it goes down, so nothing could be broken by then.
    *seldom(
        down("s6-linux-init", "poweroff", name="missing", before=(MISSING,), expected=NOTHING),
        down_by_dinit(
            *("-p", "poweroff"),
            name="missing",
            before=(MISSING,),
            expected=saying("Issuing shutdown via kernel..."),
        ),
    ),
    # PID 1 executes the launcher, which executes the original.
    *seldom(
        down_by_dinit(
            *("-r", "reboot"),
            name="half of it goes at last",
            before=(STAND_IN, HALF_GOES),
            expected=saying(TO_THE_ORIGINAL, "Issuing shutdown via kernel..."),
        )
    ),
    # So it does here. Then init goes on where it was, and in the end its scripts do.
    *seldom(
        down(
            *("sysvinit", "reboot", "reboot"),
            name="half of it goes at last",
            before=(f"sed -i '/^sleep/i {HALF_GOES}' /usr/lib/finalstage/hand-over",),
            hangs=True,
            expected=saying(TO_THE_ORIGINAL, "INIT: version 3.06 reloading", "Will now restart"),
        )
    ),
    # PID 1 is a script by then.
    *seldom(
        down(
            *("busybox", "reboot", "reboot"),
            name="half of it goes at last",
            before=(f"echo '{HALF_GOES}' >>/etc/init.d/rcK",),
            expected=NOTHING,
        )
    ),
]


@pytest.mark.parametrize("row", ALONE, ids=lambda row: row.slug)
def test_goes_down_by_its_own_way_without_it(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert not outcome.unclean + outcome.damaged
    assert [words for words in row.expected.says if words not in outcome.console] == []
    assert "finalstage [" not in outcome.console
    assert outcome.copies.halves, "and so its key is left"
