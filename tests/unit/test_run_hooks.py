"""`finalstage --hooks`: the launcher runs programs in an old root, in namespaces of their own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from cffi_build.tree import compile_launcher
from tests.older import older

# Each does what its name says, and leaves its name with what it found.
HOOK = r"""
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(const char *name, const char *what)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof path, "/out/%s", name);
    file = fopen(path, "a");
    fprintf(file, "%s\n", what);
    fclose(file);
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/') + 1;

    note(name, argc == 2 ? argv[1] : "not one argument");
    if (strstr(name, "hang")) {
        signal(SIGTERM, SIG_IGN);
        for (;;)
            pause();
    } else if (strstr(name, "crash")) {
        raise(SIGSEGV);
    } else if (strstr(name, "fail")) {
        return 3;
    } else if (strstr(name, "daemon")) {
        if (fork() == 0 && setsid() && fork() == 0)
            for (;;) {
                note("daemon", "alive");
                usleep(20000);
            }
        usleep(100000);
    } else if (strstr(name, "loud")) {
        char much[65536] = {0};

        for (int i = 0; i < 50; i++)
            fwrite(much, sizeof much, 1, stdout);
    } else if (strstr(name, "look")) {
        struct rlimit files;
        struct sigaction action;
        char found[256], place[PATH_MAX];
        int handled = 0, count = -3; /* . and .., and the folder itself */
        DIR *open = opendir("/proc/self/fd");
        sigset_t blocked;

        getrlimit(RLIMIT_NOFILE, &files);
        sigprocmask(SIG_BLOCK, NULL, &blocked);
        for (int signal = 1; signal < 32; signal++) {
            sigaction(signal, NULL, &action);
            handled += action.sa_handler != SIG_DFL || sigismember(&blocked, signal);
        }
        while (readdir(open))
            count++;
        snprintf(found, sizeof found, "cwd %s nice %d files %ld signals %d open %d path %d",
                 getcwd(place, sizeof place), getpriority(PRIO_PROCESS, 0), (long)files.rlim_cur,
                 handled, count, getenv("PATH") != NULL);
        note(name, found);
        snprintf(found, sizeof found, "/proc/%d/exe", (int)getpid());
        note(name, access(found, F_OK) == 0 ? "proc fits" : "proc is another one");
        note(name, access("/sys/kernel", F_OK) == 0 ? "sys" : "no sys");
    }
    return 0;
}
"""
# Only in a mount namespace that ends with the script. The console is a file.
SCRIPT = """
tree=$1; hook=$2; folder=$3; out=$4; shift 4
mount -t tmpfs tree $tree
cd $tree
mkdir dev proc sys run oldroot
for each in proc sys; do mount --bind /$each $each; done
touch dev/null dev/console
mount --bind /dev/null dev/null
touch $out/console
mount --bind $out/console dev/console
mount -t tmpfs oldroot oldroot
cp "$LAUNCHER" finalstage
mkdir -p oldroot/dev oldroot/proc oldroot/sys oldroot/out oldroot$folder
mount --bind $out oldroot/out
for name; do
    case $name in
    *.masked) : >oldroot$folder/$name; chmod 755 oldroot$folder/$name ;;
    *.txt) cp $hook oldroot$folder/$name; chmod 644 oldroot$folder/$name ;;
    *) cp $hook oldroot$folder/$name ;;
    esac
done
[ $folder = /lib/systemd/system-shutdown ] || ln -s usr/lib oldroot/lib
mount -o remount,ro oldroot
exec 9</dev/null # which none of them may see
i=0
while [ $i -lt ${TIMES:-1} ]; do
    chroot . /finalstage --hooks halt ${SECONDS_FOR_THEM:-5}
    i=$((i + 1))
done
findmnt -rno TARGET | grep oldroot
"""
FOLDER = "/usr/lib/systemd/system-shutdown"
LEFT_ALONE = ["oldroot", "oldroot/out"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The launcher and the hook."""
    folder = tmp_path_factory.mktemp("programs")
    launcher, hook = folder / "launcher", folder / "hook"
    compile_launcher(launcher)
    (folder / "hook.c").write_text("#include <limits.h>\n" + HOOK)
    subprocess.run(["musl-gcc", "-static", "-o", hook, folder / "hook.c"], check=True)
    return launcher, hook


class Ran:
    """What came of it: lines that the launcher said, and what each hook noted."""

    def __init__(
        self,
        programs: tuple[Path, Path],
        tmp_path: Path,
        *names: str,
        folder: str = FOLDER,
        under: tuple[str | Path, ...] = (),
        **environment: str,
    ) -> None:
        launcher, hook = programs
        tree, out = tmp_path / "tree", tmp_path / "out"
        tree.mkdir()
        out.mkdir()
        started = time.monotonic()
        script = ("unshare", "--mount", "sh", "-euc", SCRIPT, "-", tree, hook, folder, out)
        ran = subprocess.run(
            [*under, *script, *names],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LAUNCHER": str(launcher), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.seconds = time.monotonic() - started
        assert ran.returncode == 0, ran.stderr
        lines = ran.stdout.replace(f"{tree}/", "").splitlines()
        self.mounts = [line for line in lines if line.startswith("oldroot")]
        self.said = [line for line in lines if line not in self.mounts]
        noted = (path for path in out.iterdir() if path.name != "console")
        self.notes = {path.name: path.read_text().splitlines() for path in noted}
        self.out = out


def test_each_is_given_the_verb(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "one", "two.shutdown", "3")
    assert ran.notes == {"one": ["halt"], "two.shutdown": ["halt"], "3": ["halt"]}
    assert ran.said == ["ran 3"]
    assert ran.mounts == LEFT_ALONE


def test_the_folder_of_systemd_on_a_root_of_its_own(
    programs: tuple[Path, Path], tmp_path: Path
) -> None:
    ran = Ran(programs, tmp_path, "one", folder="/lib/systemd/system-shutdown")
    assert (ran.notes, ran.said) == ({"one": ["halt"]}, ["ran 1"])


def test_what_is_no_hook_is_not_run(programs: tuple[Path, Path], tmp_path: Path) -> None:
    names = ".hidden", "backup~", "a.dpkg-old", "b.bak", "readme.txt", "off.masked", "newer"
    ran = Ran(programs, tmp_path, *names)
    assert (ran.notes, ran.said) == ({"newer": ["halt"]}, ["ran 1"])


def test_none(programs: tuple[Path, Path], tmp_path: Path) -> None:
    assert Ran(programs, tmp_path).said == ["ran 0"]


def test_what_they_find(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "look")
    assert ran.notes["look"] == [
        "halt",
        "cwd / nice 0 files 1024 signals 0 open 3 path 1",
        "proc fits",
        "sys",
    ]


@pytest.mark.parametrize("first_missing", [312, 436])
def test_what_they_find_on_an_older_kernel(
    programs: tuple[Path, Path], tmp_path: Path, first_missing: int
) -> None:
    """Without what came after Linux 3.2, and without close_range(2)."""
    ran = Ran(programs, tmp_path, "look", under=older(tmp_path, first_missing))
    assert ran.notes["look"][1] == "cwd / nice 0 files 1024 signals 0 open 3 path 1"


def test_all_run_at_once_and_one_that_hangs_is_ended(
    programs: tuple[Path, Path], tmp_path: Path
) -> None:
    ran = Ran(programs, tmp_path, "a-hang", "b", "c-hang", SECONDS_FOR_THEM="1")
    assert sorted(ran.said) == [
        f"{FOLDER}/a-hang took too long, and is ended",
        f"{FOLDER}/c-hang took too long, and is ended",
        "ran 3",
    ]
    assert ran.notes == {"a-hang": ["halt"], "b": ["halt"], "c-hang": ["halt"]}
    assert 1 <= ran.seconds < 4
    assert not running("a-hang")


def test_crashes_and_failures_are_named(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "crash", "fail", "well")
    assert sorted(ran.said) == [
        f"{FOLDER}/crash was killed by signal 11",
        f"{FOLDER}/fail ended with status 3",
        "ran 3",
    ]


def test_a_daemon_ends_with_the_last_of_them(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "daemon", "other")
    assert ran.said == ["a process that one of them has left behind is ended", "ran 2"]
    assert "alive" in ran.notes["daemon"]  # the control: it has run
    time.sleep(0.2)
    assert (ran.out / "daemon").read_text().splitlines() == ran.notes["daemon"]


def test_what_they_write_does_not_get_between(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "loud")
    assert ran.said == ["ran 1"]
    assert (ran.out / "console").stat().st_size == 50 * 65536


def test_they_are_run_once(programs: tuple[Path, Path], tmp_path: Path) -> None:
    ran = Ran(programs, tmp_path, "one", TIMES="2")
    assert ran.notes == {"one": ["halt"]}
    assert ran.said == ["ran 1", "they have been run before"]


def running(name: str) -> bool:
    """Whether a process of that name is there, on this machine."""
    names = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            names.append(path.read_text().strip())
        except OSError:
            continue
    return name in names
