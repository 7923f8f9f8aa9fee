"""`finalstage check`, and `stage` and `unpack` with what was set up for a machine.

As root in a mount namespace of its own, with an /etc, a /run and a /usr/lib/systemd that are only
there. The verbs are run from their sources, since the tool has to unpack itself each time."""

from __future__ import annotations

import sys

import pytest

from tests.unit.test_stage_verb import PREPARE, TOOL, run

PREPARED = r"""
mount -t tmpfs -o mode=755 etc /etc
mount -t tmpfs run /run
mount -t tmpfs mnt /mnt
mkdir -p /etc/finalstage/hooks/start /etc/finalstage/hooks/closed
umask 022
configure() { printf "$1" >/etc/finalstage.toml; }
hook() { printf "$2" >/etc/finalstage/hooks/$1; chmod 755 /etc/finalstage/hooks/$1; }
"""
PYTHON = sys.executable
VERB = f"{PYTHON} -c 'import sys; from finalstage.cli import main; sys.exit(main())'"
CHECK = f"{VERB} check /etc/finalstage.toml"
TREE = "/run/initramfs"
STAGED = f"finalstage: {TREE} is staged already, and complete"


def last(script: str) -> list[str]:
    """Run a script on such a machine, and return all that was said, by lines."""
    ran = run(f"{PREPARED}exec 2>&1\n{script}")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()


def staged(line: str) -> bool:
    return line.startswith("finalstage: staged ") and line.endswith(f" KiB into {TREE}")


# -- check ---------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    (line,) = last(f"configure 'width = 8\\nquiet = true\\n'; hook start/x '#!/bin/sh'; {CHECK}")
    assert line == (
        "finalstage: OK: /etc/finalstage.toml sets 2 options, the kernel's command line 0,"
        " 1 hooks would run"
    )


def test_nothing_is_set_up() -> None:
    lines = last(f"rm -r /etc/finalstage; {TOOL} check || :")
    assert any(line.startswith("ok: configuration: no /etc/finalstage.toml, ") for line in lines)
    assert "problem: tree: nothing is staged at /run/initramfs; finalstage stage" in lines
    assert lines[-1].startswith("finalstage: not ready: ")


def test_each_problem_is_a_line_with_its_place_and_the_status_is_1() -> None:
    *lines, status = last(
        "configure 'width = 0\\n[hooks]\\ncarry = [\\n\"/nowhere\"]\\ntimeout = 60';"
        f"hook start/x '#!/nowhere'; mkdir /etc/finalstage/hooks/end; {CHECK} || echo $?"
    )
    assert lines == [
        "/etc/finalstage.toml:1: width must not be 0; write a whole number, 1 to 256",
        "/etc/finalstage.toml:5: all hooks of a moment have 11.25s, an eighth of timeout, together;"
        " set timeout to 8min, or hooks.timeout lower",
        "/etc/finalstage.toml:3: /nowhere is not there; install it, or correct the path",
        "/etc/finalstage/hooks/end: not the folder of a moment; it may be start, closed, last",
        "/etc/finalstage/hooks/start/x: its interpreter '/nowhere' is not there; install it, or"
        " correct the path",
    ]
    assert status == "1"


def test_words_on_the_kernels_command_line() -> None:
    lines = last(
        "echo 'ro finalstage.width=0 finalstage.quiet' >/mnt/line; mount --bind /mnt/line"
        f" /proc/cmdline; configure ''; {CHECK} || echo $?"
    )
    assert lines == ["/proc/cmdline:1: finalstage.width=0; it may be 1 to 256", "1"]


def test_another_file() -> None:
    lines = last(
        "configure 'width = 0'; echo 'width = 257' >/mnt/other;"
        f"{VERB} check /mnt/other || echo $?; {VERB} check /mnt/none || echo $?"
    )
    assert lines == [
        "/mnt/other:1: width must not be 257; write a whole number, 1 to 256",
        "1",
        "/mnt/none: not there; write it, or name another file",
        "1",
    ]


# -- stage ---------------------------------------------------------------------------------------


def test_the_configuration_is_carried_and_a_change_is_noticed() -> None:
    lines = last(
        f"configure 'timeout = \"2min\"\\n[systemd]\\nstand-in = false'; {VERB} stage;"
        f"cat {TREE}/etc/finalstage.conf; {VERB} stage;"
        f"configure 'width = 8'; {VERB} stage; cat {TREE}/etc/finalstage.conf;"
        f"rm /etc/finalstage.toml; {VERB} stage; ls {TREE}; grep -c {TREE} /proc/self/mountinfo"
    )
    assert staged(lines[0]) and staged(lines[3]) and staged(lines[5])
    assert lines[1:3] == ["timeout=120", STAGED]
    assert lines[4] == "width=8"
    assert "etc" not in lines[6:-1] and "usr" in lines[6:-1]
    assert lines[-1] == "1"


def test_hooks_are_carried_and_each_change_is_noticed() -> None:
    say = f"{VERB} stage; ls {TREE}/etc/finalstage/hooks/*"
    lines = last(
        f"hook start/10-a '#!/bin/sh'; {say}; {VERB} stage; hook start/10-a '#!/bin/sh\\n:'; {say};"
        f"hook closed/b '#!/bin/sh'; {say}; rm /etc/finalstage/hooks/start/10-a; {say};"
        f"chroot {TREE} /bin/sh -c 'echo runs'"
    )
    assert staged(lines[0]) and lines[1:3] == ["10-a", STAGED]
    assert staged(lines[3]) and lines[4] == "10-a"
    folder = f"{TREE}/etc/finalstage/hooks"
    assert staged(lines[5])
    assert lines[6:11] == [f"{folder}/closed:", "b", "", f"{folder}/start:", "10-a"]
    assert staged(lines[11]) and lines[12:] == ["b", "runs"]


def test_a_damaged_hook_is_staged_anew() -> None:
    lines = last(
        f"hook start/a '#!/bin/sh'; {TOOL} stage; echo x >>{TREE}/etc/finalstage/hooks/start/a;"
        f"{VERB} stage; cat {TREE}/etc/finalstage/hooks/start/a"
    )
    assert staged(lines[0]) and staged(lines[1]) and lines[2:] == ["#!/bin/sh"]


@pytest.mark.parametrize(
    ("text", "carried", "problems"),
    [
        ("timeout = 'soon'\\nwidth = 8", ["width=8"], 1),
        ("width = [", [], 1),
        ("a = 1\\nb = 2\\nwidth = 3", ["width=3"], 2),
        ("\\377", [], 1),
        ("quiet = true\\n[hooks]\\ndirectory = 3\\ncarry = ['/nowhere']", ["quiet=on"], 2),
        ("quiet = true\\n[hooks]\\ndirectory = '/dev/null'", ["quiet=on"], 1),
        ("quiet = true\\n[hooks]\\ncarry = ['/dev']", ["quiet=on"], 1),
    ],
)
def test_errors_are_named_and_never_keep_it_from_staging(
    text: str, carried: list[str], problems: int
) -> None:
    lines = last(
        f'configure "{text}"; {VERB} stage; cat {TREE}/etc/finalstage.conf 2>/dev/null || :'
    )
    assert all(line.startswith("finalstage: /") for line in lines[:problems])
    assert staged(lines[problems])
    assert lines[problems + 1 :] == carried


def test_a_hook_that_cannot_run_is_left_out_and_named() -> None:
    lines = last(
        f"hook start/a '#!/nowhere'; hook start/b '#!/bin/sh'; {VERB} stage; ls {TREE}/etc/*/*/*"
    )
    assert lines[0].startswith("finalstage: /etc/finalstage/hooks/start/a: its interpreter")
    assert staged(lines[1]) and lines[2:] == ["b"]


def test_problems_go_to_standard_error() -> None:
    ran = run(f"{PREPARED}configure 'width = 0'; {VERB} stage")
    assert ran.returncode == 0
    assert len(ran.stdout.splitlines()) == len(ran.stderr.splitlines()) == 1
    assert "width must not be 0" in ran.stderr


def test_what_fails_leaves_what_was_there() -> None:
    """A tree for which there is no room any more, and one that cannot be mounted."""
    broken = (
        f"{PREPARE}from finalstage.cli.staged import carried\n"
        "carried.Carried.size = 0\npayload.tree_size = lambda: 12 << 20\n"
        "sys.exit(cli.main(['stage']))"
    )
    lines = last(
        f"configure 'width = 8'; {VERB} stage; mkdir /etc/large; "
        "dd if=/dev/zero of=/etc/large/file bs=1M count=20 status=none;"
        "configure 'width = 9\\n[hooks]\\ncarry = [\"/etc/large\"]';"
        f"{PYTHON} - <<'END' || echo $?\n{broken}\nEND\n"
        f"cat {TREE}/etc/finalstage.conf; grep -c {TREE} /proc/self/mountinfo;"
        f"{VERB} stage; cat {TREE}/etc/finalstage.conf"
    )
    assert lines[1].startswith(f"finalstage: cannot stage into {TREE}: No space left on device")
    assert lines[2:5] == ["1", "width=8", "1"]
    assert staged(lines[5]) and lines[6:] == ["width=9"]


# -- another tree of shutdown, and standing in ---------------------------------------------------

OTHER = "[systemd]\\nshutdown-tree = 'other'"
DRACUT = """
mkdir -p /run/systemd/system
mount -t tmpfs systemd /usr/lib/systemd
mkdir /usr/lib/systemd/system
: >/usr/lib/systemd/system/dracut-shutdown.service
echo '#!/bin/sh' >/usr/lib/systemd/systemd-shutdown; chmod 755 /usr/lib/systemd/systemd-shutdown
"""
LEFT = f"finalstage: left {TREE} to dracut, as systemd.shutdown-tree says"
PROGRAM = "/usr/lib/systemd/systemd-shutdown"


def test_it_is_left_to_another_tree_where_that_is_wanted() -> None:
    lines = last(
        f'{DRACUT}{VERB} stage --stand-in; configure "{OTHER}"; {VERB} stage; {VERB} stage;'
        f"grep -c -e {TREE} -e {PROGRAM} /proc/self/mountinfo || :;"
        f"{VERB} stage --stand-in || echo $?;"
        f"configure \"[systemd]\\nshutdown-tree = 'finalstage'\"; {VERB} stage"
    )
    assert lines[1] == f"{LEFT}; stands in for {PROGRAM} no longer; unmounted what was staged there"
    assert lines[2:4] == [LEFT, "0"]
    assert lines[4].startswith("finalstage: cannot stand in for systemd-shutdown: dracut's tree")
    assert lines[4].endswith("below [systemd] in /etc/finalstage.toml")
    assert lines[5] == "1" and staged(lines[6])


def test_it_is_left_to_whoever_has_a_shutdown_there() -> None:
    lines = last(f'configure "{OTHER}"; mkdir {TREE}; : >{TREE}/shutdown; {VERB} stage; ls {TREE}')
    assert lines == [LEFT.replace("dracut", "whoever has put it there"), "shutdown"]


def test_where_nobody_has_another_tree_it_is_staged() -> None:
    lines = last(f'configure "{OTHER}"; {VERB} stage; {VERB} stage')
    assert staged(lines[0]) and lines[1] == STAGED


def by_systemctl(state: str) -> str:
    """A machine whose systemd says so when it is asked whether it runs."""
    return (
        f"{DRACUT}rm /usr/lib/systemd/system/*; mkdir /mnt/bin; PATH=/mnt/bin:$PATH\n"
        f"printf '#!/bin/sh\\necho {state}; exit 1' >/mnt/bin/systemctl\n"
        "chmod 755 /mnt/bin/systemctl\n"
    )


@pytest.mark.parametrize(
    ("text", "state", "stands"),
    [
        ("stand-in = true", "stopping", True),
        ("stand-in = true", "running", False),
        ("stand-in = true", "degraded", False),
        ("stand-in = false", "stopping", False),
        ("# nothing", "stopping", False),
    ],
)
def test_the_configuration_has_it_stand_in_when_the_machine_goes_down(
    text: str, state: str, stands: bool
) -> None:
    lines = last(
        f"{by_systemctl(state)}configure '[systemd]\\n{text}'; {VERB} stage;"
        f"grep -c {PROGRAM} /proc/self/mountinfo || :"
    )
    assert lines[0].endswith(f"; stands in for {PROGRAM}") == stands
    assert lines[1] == str(int(stands))


@pytest.mark.parametrize(
    ("text", "stands"), [("stand-in = true", True), ("stand-in = false", False), ("", True)]
)
def test_what_stands_in_by_hand_is_left_unless_the_configuration_says_no(
    text: str, stands: bool
) -> None:
    lines = last(
        f"{by_systemctl('running')}{VERB} stage --stand-in; configure '[systemd]\\n{text}';"
        f"{VERB} stage; grep -c {PROGRAM} /proc/self/mountinfo || :"
    )
    assert lines[-1] == str(int(stands))


# -- unpack --------------------------------------------------------------------------------------


def test_an_image_for_this_machine_has_what_was_set_up() -> None:
    lines = last(
        "configure 'width = 8\\nx = 1'; hook start/a '#!/bin/sh';"
        f"{VERB} unpack --configured /mnt/tree; cat /mnt/tree/etc/finalstage.conf;"
        f"ls /mnt/tree/etc/finalstage/hooks/start;"
        f"{VERB} unpack --configured /mnt/tree 2>/dev/null; {VERB} unpack /mnt/plain;"
        f"ls /mnt/plain | grep -c etc || :;"
        f"{VERB} unpack /mnt/tree || echo $?"
    )
    assert lines[0] == "finalstage: /etc/finalstage.toml:2: there is no key 'x'; remove it"
    assert lines[1].endswith("KiB into /mnt/tree")
    assert lines[2:5] == [
        "width=8",
        "a",
        "finalstage: /mnt/tree holds the final stage already, complete",
    ]
    assert lines[6] == "0"
    assert lines[7].endswith("it is not empty; choose an empty or new one") and lines[8] == "1"
