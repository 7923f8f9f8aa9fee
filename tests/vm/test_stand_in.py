"""In place of systemd-shutdown: opted in by the verb, and executed with systemd's own arguments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vm.cache import PROJECT
from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.layers import Modules
from tests.vm.part import seldom
from tests.vm.rows import DIRECT, Row
from tests.vm.stacks import MAIN_BUSY, PLAIN
from tests.vm.systemd import archive

TOOL = PROJECT / "dist" / "finalstage"
STACK = replace(
    MAIN_BUSY,
    name="main, swap and nested mounts, binfmt_misc and vsock",
    layers=(*MAIN_BUSY.layers, Modules(("binfmt_misc", "vsock_loopback"))),
)
# Twice, which is harmless.
STAND_IN = """
cp /run/tray/finalstage /bin; chmod 755 /bin/finalstage
finalstage stage --stand-in
finalstage stage --stand-in"""
PROGRAM = "/lib/systemd/systemd-shutdown"
# What PID 1 executes: become_shutdown() in src/core/main.c of systemd 252 and 257.
BY_252 = (
    f"WATCHDOG_USEC=0 WATCHDOG_PID=1 exec {PROGRAM} {{verb}} --timeout=90000000us --log-level=6"
    " --log-target=kmsg --log-color"
)
BY_257 = (
    f"WATCHDOG_USEC=0 WATCHDOG_PID=1 exec {PROGRAM} {{verb}} --timeout=90000000us"
    " --log-level info --log-target=kmsg --log-color --exit-code=0"
)
FOLDER = "/lib/systemd/system-shutdown"


def hook(name: str, text: str) -> str:
    """Shell text that puts a program into the system-shutdown folder."""
    path = f"{FOLDER}/{name}"
    return f"mkdir -p {FOLDER}; echo '#!/bin/sh' >{path}; chmod 755 {path}\n" + "\n".join(
        f"echo '{line}' >>{path}" for line in text.strip().splitlines()
    )


# Says what is still there: the verb, root and its access, and how many swap areas.
PROOF = hook(
    "proof",
    """
root=$(grep -o " / ext4 r[ow]" /proc/mounts)
swaps=$(grep -c /dev /proc/swaps)
srv=$(grep -c /srv /proc/mounts)
echo "hook: $1,$root, $swaps swaps, $srv more" >/dev/console""",
)
PROVED = "hook: {verb}, / ext4 ro, 0 swaps, 0 more"
HANGS = hook("hangs", "trap : TERM HUP INT\nwhile :; do sleep 1000; done")
CRASHES = hook("crashes", "kill -SEGV $$")
LEAVES_A_DAEMON = hook("leaves", 'setsid sh -c "while :; do sleep 1; done" </dev/null & sleep 0.2')
WRITES_LOTS = hook("writes", "yes 0123456789 | head -n 500")


def listening(address: str) -> str:
    """Shell text that starts a listener which looks like a storage daemon, and so stays."""
    return f"(exec -a @listen /run/listen {address})"


# The interpreter is held open by a rule, which stays as long as its own file system, and that is
# held by what looks like a storage daemon.
RULE = """
mount -t proc proc /proc
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
cp /bin/busybox /bin/interpreter
echo ':held:M::HELD::/bin/interpreter:F' >/proc/sys/fs/binfmt_misc/register
grep -q 'flags: F' /proc/sys/fs/binfmt_misc/held"""
LEFT = f"finalstage: leaving it to the original {PROGRAM}: "

ROWS = [
    Row(
        "standing in, programs of system-shutdown",
        STACK,
        f"NOTIFY_SOCKET=@notified {BY_252}",
        staging=STAND_IN,
        before=(PROOF, CRASHES, LEAVES_A_DAEMON, WRITES_LOTS, listening("@notified")),
        programs=(TOOL,),
        tools=("listen",),
        expected=Expected(
            says=(
                PROVED.format(verb="poweroff"),
                f"at system-shutdown: {FOLDER}/crashes was killed by signal 11",
                "at system-shutdown: a process that one of them has left behind is ended",
                "ran 4 programs of system-shutdown",
                "remaining 0, keys left 0",
                "heard EXIT_STATUS=0 X_SYSTEMD_SHUTDOWN=poweroff from no port",
            )
        ),
    ),
    *seldom(
        Row(
            "standing in, reboot with a parameter",
            STACK,
            f"NOTIFY_SOCKET=vsock-stream:1:9999 {BY_257}",
            "reboot",
            staging=STAND_IN,
            before=(
                "mkdir -p /run/systemd; echo recovery >/run/systemd/reboot-param",
                RULE,
                listening("vsock:9999"),
            ),
            programs=(TOOL,),
            tools=("listen",),
            expected=Expected(
                says=(
                    "Restarting system with command 'recovery'",
                    "remaining 0, keys left 0",
                    "heard EXIT_STATUS=0 X_SYSTEMD_SHUTDOWN=reboot"
                    " X_SYSTEMD_REBOOT_PARAMETER=recovery from a privileged port",
                )
            ),
        )
    ),
    Row(
        "standing in, a program of system-shutdown hangs",
        STACK,
        f"{BY_252} --budget=40",
        staging=STAND_IN.replace("--stand-in", "--stand-in /run/elsewhere"),
        before=(PROOF, HANGS),
        programs=(TOOL,),
        deadline=50,
        hangs=True,
        expected=Expected(
            says=(
                PROVED.format(verb="poweroff"),
                f"at system-shutdown: {FOLDER}/hangs took too long, and is ended",
                "ran 2 programs of system-shutdown",
                "remaining 0, keys left 0",
            )
        ),
    ),
    *seldom(
        Row(
            "standing in, the tree has gone",
            PLAIN,
            BY_252.replace("kmsg", "console"),
            staging=STAND_IN,
            before=("umount -l /run/initramfs",),
            programs=(TOOL,),
            expected=Expected(
                says=(f"{LEFT}no tree", "All filesystems unmounted.", "Powering off.")
            ),
        )
    ),
    Row(
        "standing in, half of the tree has gone",
        PLAIN,
        BY_252.replace("kmsg", "console"),
        "reboot",
        staging=STAND_IN,
        before=("rm -r /run/initramfs/usr",),
        programs=(TOOL,),
        # systemd then hands over to the launcher, which does the rest without its stage.
        expected=Expected(says=(f"{LEFT}no tree", "All filesystems unmounted.", "status 127")),
    ),
    *seldom(
        Row(
            "standing in, a container",
            PLAIN,
            BY_252.replace("kmsg", "console"),
            staging=STAND_IN,
            before=("mkdir -p /run/systemd; echo lxc >/run/systemd/container",),
            programs=(TOOL,),
            expected=Expected(says=(f"{LEFT}a container", "All filesystems unmounted.")),
        )
    ),
    Row(
        "an interpreter is held by binfmt_misc",
        STACK,
        DIRECT,
        before=(RULE, "(exec -a @holder /run/holder /proc/sys/fs/binfmt_misc/status) &"),
        tools=("holder",),
        expected=Expected(says=("remaining 0, keys left 0",)),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_does_all_that_systemd_shutdown_does(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"


# systemd itself is PID 1, with such a unit, and goes down as soon as it is up. systemd-shutdown
# runs what PROOF is too, but has no such words for it.
UNPACK = "tar -x -C / -f /run/systemd.tar; cp /run/finalstage /bin"
SYSTEMD = "SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=info exec /lib/systemd/systemd"


def unit(*lines: str) -> str:
    """Shell text that writes finalstage.service; `lines` are of its section [Service]."""
    path = "/lib/systemd/system/finalstage.service"
    text = (
        *("[Unit]", "DefaultDependencies=no", "After=local-fs.target", "Conflicts=shutdown.target"),
        *("Before=shutdown.target", "[Service]", "Type=oneshot", "RemainAfterExit=yes", *lines),
    )
    return "\n".join(f"echo '{line}' >>{path}" for line in text)


RAN = (
    PROVED.format(verb="poweroff"),
    "ran 1 programs of system-shutdown",
    "remaining 0, keys left 0",
)
UNDER_SYSTEMD = [
    Row(
        "systemd, stands in from the start",
        STACK,
        SYSTEMD,
        staging="",
        before=(UNPACK, PROOF, unit("ExecStart=/bin/finalstage stage --stand-in")),
        programs=(TOOL, archive()),
        expected=Expected(says=RAN),
    ),
    *seldom(
        Row(
            "systemd, stands in when it goes down",
            STACK,
            SYSTEMD,
            staging="",
            before=(
                UNPACK,
                PROOF,
                unit(
                    "ExecStart=/bin/finalstage stage", "ExecStop=/bin/finalstage stage --stand-in"
                ),
            ),
            programs=(TOOL, archive()),
            expected=Expected(says=RAN),
        )
    ),
    Row(
        "control: systemd unmounts what stands in without a drop-in",
        STACK,
        SYSTEMD,
        staging="",
        before=(
            UNPACK,
            unit(
                "ExecStart=/bin/finalstage stage",
                f"ExecStart=/bin/mount -o bind /run/initramfs/shutdown {PROGRAM}",
            ),
        ),
        programs=(TOOL, archive()),
        expected=Expected(
            says=("Successfully changed into root pivot", "remaining 0, keys left 0")
        ),
    ),
]


@pytest.mark.parametrize("row", UNDER_SYSTEMD, ids=lambda row: row.slug)
def test_under_systemd(happen: Happen, row: Row) -> None:
    assert not happen(row).problems, f"see {row.folder}"
