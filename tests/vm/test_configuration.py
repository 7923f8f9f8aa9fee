"""A machine with a configuration and programs of its administrator, staged by the real tool."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.cache import PROJECT
from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.inits import CLOSED, down
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, RETURN, Row
from tests.vm.stacks import MAIN, MAIN_BUSY
from tests.vm.test_guardian import with_fault

TOOL = PROJECT / "dist" / "finalstage"
ECHO = Path("/usr/bin/echo")
"""A program with an ld.so and libraries: it says the verb."""

HOOKS = "/etc/finalstage/hooks"
STAGE = """
cp /run/tray/finalstage /bin; chmod 755 /bin/finalstage
finalstage check /etc/finalstage.toml
finalstage stage"""


def hook(place: str, text: str, interpreter: str = "/bin/sh", tree: str = "") -> str:
    """Shell text that puts a program into the folder of a moment, of the machine or of a tree."""
    path = f"{tree}{HOOKS}/{place}"
    lines = (f"#!{interpreter}", *text.strip().splitlines())
    return "\n".join(
        (
            f"mkdir -p {path.rpartition('/')[0]}; : >{path}; chmod 755 {path}",
            *(f"echo '{line}' >>{path}" for line in lines),
        )
    )


def configuration(*lines: str) -> str:
    """Shell text that writes it."""
    return "\n".join(
        (": >/etc/finalstage.toml", *(f"echo '{line}' >>/etc/finalstage.toml" for line in lines))
    )


# Says what is there: mapped devices, swap areas, and what can be seen of the old root.
SAYS = """
mapped=$(grep -c dm- /proc/partitions)
swaps=$(grep -c /dev /proc/swaps)
echo "hook $FINALSTAGE_MOMENT: $1, $mapped mapped, $swaps swaps,$(echo /oldroot/*)"
echo "left: ${FINALSTAGE_REMAINING-?}, keys ${FINALSTAGE_KEYS_LEFT-?}" """
AT = (
    "hook start: poweroff, 4 mapped, 1 swaps,/oldroot/*\r\nleft: ?, keys ?",
    "hook closed: poweroff, 0 mapped, 0 swaps,/oldroot/*\r\nleft: 0, keys 0",
    "hook last: poweroff, 0 mapped, 0 swaps,/oldroot/*\r\nleft: 0, keys 0",
)
HANGS = "trap : TERM HUP INT\nexec 7</dev/vda\nwhile :; do sleep 1000; done"
LEAVES_A_DAEMON = 'setsid sh -c "exec 7</dev/vda; while :; do sleep 1; done" & sleep 0.2'
READS = "cat /etc/of-the-administrator"
ALL = "\n".join(
    (
        "echo 'it was carried' >/etc/of-the-administrator",
        configuration(
            'timeout = "40s"',
            "keyfiles = []",
            "[hooks]",
            'timeout = "1s"',
            'carry = ["/etc/of-the-administrator"]',
        ),
        *(hook(f"{moment}/10-says", SAYS) for moment in ("start", "closed", "last")),
        hook("start/20-leaves", LEAVES_A_DAEMON),
        f"cp /run/tray/echo {HOOKS}/start/30-echo; chmod 755 {HOOKS}/start/30-echo",
        hook("closed/20-hangs", HANGS),
        hook("closed/30-reads", READS),
        hook("last/20-fails", "exit 3"),
    )
)
SAID = (
    *AT,
    f"at hooks/start: a process that {HOOKS}/start/20-leaves has left behind is ended",
    "\npoweroff\r\n",
    "ran 3 programs of hooks/start",
    f"at hooks/closed: {HOOKS}/closed/20-hangs took too long, and is ended",
    "\nit was carried\r\n",
    "ran 3 programs of hooks/closed",
    f"at hooks/last: {HOOKS}/last/20-fails ended with status 3",
    "ran 2 programs of hooks/last",
    "remaining 0, keys left 0",
)
SAYS_SO = 'echo "hook $FINALSTAGE_MOMENT $1 ${BASH_VERSION%%.*}"'
TREE = "/run/initramfs"
GARBAGE = f"mkdir {TREE}/etc; dd if=/dev/urandom of={TREE}/etc/finalstage.conf bs=4k count=4"
MOMENTS = ("start", "closed", "last")
IN_TREE = "\n".join(
    (
        f"mkdir {TREE}/bin; cp /bin/busybox {TREE}/bin/sh",
        *(hook(f"{moment}/x", SAYS, tree=TREE) for moment in MOMENTS),
    )
)

ROWS = [
    Row(
        "configured, hooks at each moment",
        MAIN_BUSY,
        DIRECT,
        staging=ALL + STAGE,
        programs=(TOOL, ECHO),
        deadline=30,
        expected=Expected(says=SAID),
    ),
    Row(
        "configured, the tree's configuration is garbage",
        MAIN,
        DIRECT,
        "reboot",
        before=(GARBAGE,),
        expected=Expected(says=("ignoring the option", "remaining 0, keys left 0")),
    ),
    *seldom(
        down(
            "systemd",
            "systemctl poweroff",
            name="configured, hooks",
            earlier="\n".join(
                (
                    configuration("width = 8"),
                    hook("start/x", SAYS_SO, "/usr/bin/env bash"),
                    hook("last/x", SAYS_SO, "/usr/bin/env bash"),
                )
            ),
            expected=Expected(says=(*CLOSED.says, "hook start poweroff 5", "hook last poweroff 5")),
        )
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_does_what_is_configured(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


def test_no_hook_is_run_twice_where_the_stage_dies_and_begins_again(happen: Happen) -> None:
    """On the return path /run, where others would note that, is unmounted meanwhile."""
    row = Row(
        "configured, main, return, killed once",
        MAIN,
        with_fault("kill@phase:settle,once", path=RETURN),
        before=(IN_TREE,),
    )
    outcome = happen(row)
    assert not outcome.problems
    assert "starting it once more" in outcome.console
    assert "at hooks/start: they have been run before" in outcome.console
    counts = {moment: outcome.console.count(f"hook {moment}: ") for moment in MOMENTS}
    assert counts == {"start": 1, "closed": 1, "last": 1}
