"""`finalstage stage --stand-in`, as root in a mount namespace of its own, on a /usr/lib/systemd and
a /run that are only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from finalstage.cli.staged.stand_in import drop_in_folder
from tests.unit.test_stage_verb import TOOL, run

PROGRAM = "/usr/lib/systemd/systemd-shutdown"
DROP_IN = r"/run/systemd/system/usr-lib-systemd-systemd\x2dshutdown.mount.d/finalstage.conf"
# Where systemd runs, and where its program is a shell script.
ORIGINAL = "echo '#!/bin/sh' >/usr/lib/systemd/systemd-shutdown; chmod 755 " + PROGRAM
SYSTEMD = f"""
mount -t tmpfs run /run
mkdir -p /run/systemd/system
mount -t tmpfs systemd /usr/lib/systemd
{ORIGINAL}
"""
STAGE = f"{TOOL} stage"
DIRECTORY = "/run/initramfs"


def last(script: str) -> list[str]:
    """Run a script where systemd runs, and return what was said, by lines."""
    ran = run(SYSTEMD + script)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_mounts_the_launcher_in_place_of_the_program() -> None:
    said, same, source, *drop_in = last(
        f"{STAGE} --stand-in; cmp {PROGRAM} {DIRECTORY}/shutdown && echo same;"
        f"findmnt -no SOURCE {PROGRAM}; cat '{DROP_IN}'"
    )
    assert said.startswith("finalstage: staged ")
    assert said.endswith(f" KiB into {DIRECTORY}; stands in for {PROGRAM}")
    assert (same, source) == ("same", "finalstage[/finalstage]")
    assert drop_in == ["[Unit]", "DefaultDependencies=no"]


def test_the_file_below_is_as_it_was() -> None:
    lines = last(
        f"before=$(stat -c '%i %Y %s %a' {PROGRAM}); {STAGE} --stand-in; umount {PROGRAM};"
        f'[ "$before" = "$(stat -c "%i %Y %s %a" {PROGRAM})" ] && cat {PROGRAM}'
    )
    assert lines[1:] == ["#!/bin/sh"]


def test_twice_is_harmless() -> None:
    lines = last(
        f"{STAGE} --stand-in; {STAGE} --stand-in; grep -c '{PROGRAM}' /proc/self/mountinfo"
    )
    assert lines[1:] == [
        f"finalstage: {DIRECTORY} is staged already, and complete; stands in for {PROGRAM} already",
        "1",
    ]


def test_no_stand_in_undoes_it() -> None:
    lines = last(
        f"{STAGE} --stand-in; {STAGE} --no-stand-in; cat {PROGRAM}; ls '{DROP_IN}' 2>&1 || true;"
        f"{STAGE} --no-stand-in"
    )
    assert lines[1].endswith(f"; stands in for {PROGRAM} no longer")
    assert lines[2] == "#!/bin/sh"
    assert "No such file" in lines[3]
    assert lines[4] == f"finalstage: {DIRECTORY} is staged already, and complete"


def test_staged_anew_it_goes_on_standing_in_with_the_new_tree() -> None:
    lines = last(
        f"{STAGE} --stand-in; echo x >>{DIRECTORY}/finalstage; {STAGE};"
        f"cmp {PROGRAM} {DIRECTORY}/shutdown && grep -c '{PROGRAM}' /proc/self/mountinfo"
    )
    assert lines[1].startswith("finalstage: staged ")
    assert lines[1].endswith(f"; stands in for {PROGRAM}")
    assert lines[2] == "1"


def test_without_the_option_nothing_is_mounted_there() -> None:
    assert last(f"{STAGE}; cat {PROGRAM}")[1:] == ["#!/bin/sh"]


def test_another_directory() -> None:
    lines = last(
        f"{STAGE} --stand-in /run/elsewhere; cmp {PROGRAM} /run/elsewhere/shutdown; echo $?"
    )
    assert lines[1] == "0"


def test_without_systemd_running_no_drop_in_is_written() -> None:
    lines = last(f"rmdir /run/systemd/system; {STAGE} --stand-in; ls -A /run/systemd")
    assert lines[0].endswith(f"stands in for {PROGRAM}")
    assert lines[1:] == []


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (
            "umount /usr/lib/systemd; mount -t tmpfs no-systemd /usr/lib/systemd",
            "cannot stand in for systemd-shutdown: there is no "
            "/usr/lib/systemd/systemd-shutdown or /lib/systemd/systemd-shutdown",
        ),
        (
            "echo lxc >/run/systemd/container",
            f"cannot stand in for {PROGRAM}: a container has nothing to close",
        ),
        (
            f"mount --bind /bin/true {PROGRAM}",
            f"cannot stand in for {PROGRAM}: something else is mounted there; umount {PROGRAM}",
        ),
        (
            "mount -t tmpfs fs /sys/fs; mkdir /sys/fs/selinux; echo 1 >/sys/fs/selinux/enforce",
            f"cannot stand in for {PROGRAM}: SELinux is enforcing",
        ),
    ],
    ids=["no systemd-shutdown", "container", "another mount", "SELinux"],
)
def test_a_refusal_is_one_line_and_changes_nothing(before: str, reason: str) -> None:
    ran = run(
        f"{SYSTEMD}{before}\nfindmnt -rno TARGET >/run/before; set +e; {STAGE} --stand-in;"
        f"echo status $?; findmnt -rno TARGET | cmp /run/before; ls -A /run/systemd/system"
    )
    assert ran.stdout == "status 1\n"
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"finalstage: {reason}")


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/usr/lib/systemd/systemd-shutdown", r"usr-lib-systemd-systemd\x2dshutdown"),
        ("/nix/store/a+b@c/ü", r"nix-store-a\x2bb\x40c-\xc3\xbc"),
    ],
)
def test_the_name_of_the_unit(path: str, unit: str) -> None:
    """As systemd-escape(1) makes it."""
    assert drop_in_folder(Path(path)).name == f"{unit}.mount.d"
