"""systemd as PID 1: whose tree it hands over to, and what it does where ours is broken."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.guest import guest
from tests.vm.inits import CLOSED, down
from tests.vm.part import seldom
from tests.vm.rows import Row
from tests.vm.stacks import with_init
from tests.vm.test_stand_in import PROOF

POWEROFF = "systemctl poweroff"
TREE = "/run/initramfs"
NOEXEC = "mount -o remount,noexec /run; mount -t tmpfs -o noexec,nosuid,nodev tmp /tmp"
NO_TOOL = "rm /usr/local/sbin/finalstage"
NO_TREE = f"umount {TREE}"
CUT_LAUNCHER = f"truncate -s 4096 {TREE}/shutdown"
CUT_STAGE = f"truncate -s 100000 {TREE}/usr/lib/finalstage/stage"

# As dracut has prepared it when a machine boots: a mark, and an image that it unpacks in the end.
DRACUT = f"""
mkdir -p {TREE} /lib/modules/$(uname -r) /root/image/bin
touch {TREE}/.need_shutdown
install -m 755 /run/tray/other /root/image/shutdown
ln -s ../shutdown /root/image/bin/sh
(cd /root/image; find . | cpio --quiet -o -H newc) | gzip >/lib/modules/$(uname -r)/initrd
systemctl is-active dracut-shutdown.service"""
OTHER = "the tree of somebody else is at work"


def configured(line: str) -> str:
    """Shell text that sets a key of the configuration, in the section of systemd."""
    return f"printf '[systemd]\\n{line}\\n' >/etc/finalstage.toml"


THEIR_TREE = configured('shutdown-tree = "other"')

ROWS = [
    *seldom(down("systemd", POWEROFF, name="/run and /tmp are noexec", earlier=NOEXEC)),
    down(
        "systemd", POWEROFF, name="dracut restores its tree too", earlier=DRACUT, tools=("other",)
    ),
    *seldom(
        down(
            "systemd",
            POWEROFF,
            name="dracut has restored its tree, ours has gone",
            earlier=DRACUT,
            before=(NO_TREE,),
            tools=("other",),
        )
    ),
    down(
        "systemd",
        POWEROFF,
        name="stands in for systemd-shutdown",
        earlier=configured("stand-in = true"),
        before=(PROOF,),
        expected=Expected(says=(*CLOSED.says, "ran 1 programs of system-shutdown")),
    ),
    *seldom(down("systemd", POWEROFF, name="the launcher was cut", before=(CUT_LAUNCHER,))),
    down(
        "systemd",
        POWEROFF,
        name="the tool has gone, the stage was cut",
        before=(NO_TOOL, CUT_STAGE),
        expected=Expected(says=("wiped the key of crypt",)),
    ),
    *seldom(
        down(
            "systemd",
            "systemctl kexec",
            "kexec",
            ends_by="panic",  # of the new kernel, which finds no root
            before=("/run/kexec /run/vmlinuz",),
            tools=("kexec",),
            programs=(guest().kernel,),
            expected=Expected(says=(*CLOSED.says, "Linux version")),
        )
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_everything(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


THEIRS = [
    Row(
        "control: systemd, dracut restores its tree",
        with_init("systemd"),
        POWEROFF,
        staging=DRACUT,
        tools=("other",),
    ),
    *seldom(
        down(
            "systemd",
            POWEROFF,
            name="dracut's tree wins by configuration",
            earlier=f"{THEIR_TREE}\n{DRACUT}",
            tools=("other",),
        )
    ),
]


@pytest.mark.parametrize("row", THEIRS, ids=lambda row: row.slug)
def test_somebody_elses_tree_has_the_last_word(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert OTHER in outcome.console
    assert outcome.copies.halves >= 2


UNSTAGED = [
    down("systemd", POWEROFF, name="tool and tree have gone", before=(NO_TOOL, NO_TREE)),
    *seldom(
        down(
            "systemd",
            POWEROFF,
            name="the tool has gone, the launcher was cut",
            before=(NO_TOOL, CUT_LAUNCHER),
        )
    ),
]


@pytest.mark.parametrize("row", UNSTAGED, ids=lambda row: row.slug)
def test_systemd_goes_down_by_its_own_way(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert outcome.end.kind == row.verb
    assert outcome.copies.halves >= 2
    assert not outcome.unclean + outcome.damaged
