"""`finalstage --moment`: the launcher runs what the tree carries, one after the other, alone."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from cffi_build.tree import compile_launcher
from tests.unit.test_run_hooks import running

# Each does what its name says, and leaves its name with what it found.
HOOK = r"""
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static void note(const char *what)
{
    FILE *file = fopen("/notes", "a");

    fprintf(file, "%s\n", what);
    fclose(file);
}

static int lines_of(const char *path)
{
    FILE *file = fopen(path, "r");
    int count = 0, character;

    while (file && (character = fgetc(file)) != EOF)
        count += character == '\n';
    return count;
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/') + 1;
    char found[512];

    note(name);
    if (strstr(name, "hang")) {
        signal(SIGTERM, SIG_IGN);
        for (;;)
            pause();
    } else if (strstr(name, "fail")) {
        return 3;
    } else if (strstr(name, "daemon")) {
        if (fork() == 0 && setsid() && fork() == 0)
            for (;;) {
                note("alive");
                usleep(20000);
            }
        usleep(100000);
    } else if (strstr(name, "mount")) {
        note(mount("tmpfs", "/tmp", "tmpfs", 0, NULL) == 0 ? "mounted" : "not mounted");
    } else if (strstr(name, "say")) {
        puts("said aloud");
    } else if (strstr(name, "look")) {
        snprintf(found, sizeof found, "%s %s %s %s %d mounts, %s", argc == 2 ? argv[1] : "-",
                 getenv("FINALSTAGE_MOMENT"), getenv("FINALSTAGE_REMAINING"),
                 getenv("PATH") ? "path" : "no path", lines_of("/proc/self/mountinfo"),
                 access("/oldroot/inside", F_OK) ? "no old root" : "old root");
        note(found);
        note(access("/proc/1/root/oldroot/inside", F_OK) ? "no way to it" : "a way to it");
    }
    return 0;
}
"""
# Only in a mount namespace that ends with the script. The console is a file, and so is /notes.
SCRIPT = """
tree=$1; hook=$2; shift 2
mount -t tmpfs tree $tree
cd $tree
mkdir -p dev proc sys run tmp oldroot etc/finalstage/hooks/closed
for each in proc sys; do mount --rbind /$each $each; done
mount -t tmpfs dev dev
touch dev/null dev/console
mount --bind /dev/null dev/null
mount -t tmpfs oldroot oldroot
mkdir oldroot/more oldroot/inside
mount -t tmpfs more oldroot/more
mount -t tmpfs run run
cp "$LAUNCHER" finalstage
for name; do
    case $name in
    *.script) printf '#!/bin/nowhere\\n' >etc/finalstage/hooks/closed/$name ;;
    *) cp $hook etc/finalstage/hooks/closed/$name ;;
    esac
    case $name in
    *.txt) chmod 644 etc/finalstage/hooks/closed/$name ;;
    *) chmod 755 etc/finalstage/hooks/closed/$name ;;
    esac
done
i=0
while [ $i -lt ${TIMES:-1} ]; do
    FINALSTAGE_REMAINING=2 FINALSTAGE_MOMENT=closed \
        chroot . /finalstage --moment closed halt ${TOGETHER:-5} ${EACH:-2}
    i=$((i + 1))
done
sleep ${AFTERWARDS:-0}
findmnt -rno TARGET | grep -c "^$tree"
sed 's/^/console: /' dev/console
sed 's/^/note: /' notes 2>/dev/null || :
"""
FOLDER = "/etc/finalstage/hooks/closed"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The launcher and the hook."""
    folder = tmp_path_factory.mktemp("programs")
    launcher, hook = folder / "launcher", folder / "hook"
    compile_launcher(launcher)
    (folder / "hook.c").write_text(HOOK)
    subprocess.run(["musl-gcc", "-static", "-o", hook, folder / "hook.c"], check=True)
    return launcher, hook


class Ran:
    """What came of it: lines that the launcher said, that were on the console, that were noted."""

    def __init__(
        self, programs: tuple[Path, Path], tmp_path: Path, *names: str, **environment: str
    ) -> None:
        launcher, hook = programs
        tree = tmp_path / "tree"
        tree.mkdir()
        started = time.monotonic()
        ran = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", SCRIPT, "-", tree, hook, *names],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LAUNCHER": str(launcher), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.seconds = time.monotonic() - started
        assert ran.returncode == 0, ran.stderr
        found: dict[str, list[str]] = {"console": [], "note": []}
        self.said: list[str] = []
        for line in ran.stdout.splitlines():
            kind, _, rest = line.partition(": ")
            found.get(kind, self.said).append(rest if kind in found else line)
        self.mounts = int(self.said.pop())
        self.console, self.notes = found["console"], found["note"]


def test_in_the_order_of_their_names(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "20-b", "10-c", "9", "30-a")
    assert ran.notes == ["10-c", "20-b", "30-a", "9"]
    assert ran.said == ["ran 4"]


def test_what_they_find(programs: tuple[Path, Path], tmp_path: Path) -> None:
    """/, /dev, /proc and /sys, and /proc once more, that of their own process namespace."""
    ran = Ran(programs, tmp_path, "look")
    assert ran.notes == [
        "look",
        "halt closed 2 path 5 mounts, no old root",
        "no way to it",
    ]


def test_what_they_mount_goes_with_them(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "mount", "say")
    before = Ran(programs, tmp_path / "tree", "say").mounts
    assert "mounted" in ran.notes
    assert ran.mounts == before
    assert ran.console == ["said aloud"]


def test_what_is_no_hook_is_not_run(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, ".hidden", "backup~", "a.dpkg-old", "readme.txt", "it")
    assert (ran.notes, ran.said) == (["it"], ["ran 1"])


def test_failures_are_named_and_stop_nobody(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "1-fail", "2.script", "3")
    assert ran.said == [
        f"{FOLDER}/1-fail ended with status 3",
        f"{FOLDER}/2.script cannot be executed: No such file or directory",
        f"{FOLDER}/2.script ended with status 127",
        "ran 3",
    ]
    assert ran.notes == ["1-fail", "3"]


def test_each_has_its_time(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "1-hang", "2", EACH="0.5")
    assert ran.said == [f"{FOLDER}/1-hang took too long, and is ended", "ran 2"]
    assert ran.notes == ["1-hang", "2"]
    assert 0.5 <= ran.seconds < 3
    assert not running("1-hang")


def test_together_they_have_theirs(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "1", "2-hang", "3", EACH="9", TOGETHER="1")
    assert ran.said == [
        f"{FOLDER}/2-hang took too long, and is ended",
        f"{FOLDER}/3 was not run: no time is left",
        "ran 2",
    ]
    assert ran.notes == ["1", "2-hang"]
    assert 1 <= ran.seconds < 3


def test_a_daemon_ends_before_the_next_begins(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "1-daemon", "2", AFTERWARDS="0.2")
    assert ran.said == [f"a process that {FOLDER}/1-daemon has left behind is ended", "ran 2"]
    assert "alive" in ran.notes  # the control: it has run
    assert ran.notes[-1] == "2"


def test_they_are_run_once(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "one", TIMES="2")
    assert ran.notes == ["one"]
    assert ran.said == ["ran 1", "they have been run before"]


def test_none(programs: tuple[Path, Path], tmp_path: Path) -> None:
    assert Ran(programs, tmp_path).said == ["ran 0"]
