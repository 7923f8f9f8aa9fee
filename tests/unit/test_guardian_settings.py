"""What the guardian heeds of the options: the same as the stage, which is written in Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finalstage import handover
from tests.sim.kernel import SimKernel
from tests.sim.machine import Machine

LAUNCHER = Path(__file__).resolve().parents[2] / "finalstage" / "launcher"
# Reads cases from its input, each three lines: configuration (\v for a new line), the kernel's
# command line, one argument.
READER = r"""
#define _GNU_SOURCE
#include <stdio.h>
static FILE *open_text(const char *path, const char *mode);
#define fopen open_text
#include "settings.c"
#undef fopen

static char lines[3][4096];

static FILE *open_text(const char *path, const char *mode)
{
    char *text = lines[!strcmp(path, COMMAND_LINE)];

    (void)mode;
    return *text ? fmemopen(text, strlen(text), "r") : NULL;
}

int main(void)
{
    while (fgets(lines[0], sizeof *lines, stdin) && fgets(lines[1], sizeof *lines, stdin) &&
           fgets(lines[2], sizeof *lines, stdin)) {
        char *arguments[] = {"finalstage", lines[2], NULL};
        struct settings found;

        lines[2][strcspn(lines[2], "\n")] = '\0';
        for (char *each = lines[0]; (each = strchr(each, '\v'));)
            *each = '\n';
        found = read_settings(arguments);
        printf("%ld %d\n", found.budget, found.watchdog);
        fflush(stdout);
    }
    return 0;
}
"""
NAMES = st.sampled_from(["timeout", "budget", "watchdog", "quiet", "watch", "timeouts", ""])
TIMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "-", "1", "10", "90", "12.5", ".5", "1.2.3", "86400", "86401", "0x20"]),
    st.sampled_from(["", "s", "min", "h", "ms", "us", "hours", "parsecs", "e3", "secseconds"]),
    st.sampled_from(["", "30s", "5", "1", "ms", "."]),
)
VALUES = st.one_of(st.sampled_from(["on", "off", "no", "of"]), TIMES)
SETTING = st.builds("{}{}{}".format, NAMES, st.sampled_from(["=", "=", "=", "", "=="]), VALUES)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> subprocess.Popen[str]:
    """A program that tells what the guardian makes of three lines."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "reader.c").write_text(READER)
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
    program = folder / "reader"
    subprocess.run(
        ["gcc", "-g", *checks, f"-I{LAUNCHER}", "-o", program, folder / "reader.c"], check=True
    )
    return subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def by_guardian(
    reader: subprocess.Popen[str], carried: list[str], line: list[str], argument: str
) -> tuple[int, bool]:
    """Return milliseconds, and whether the watchdog is armed."""
    assert reader.stdin and reader.stdout
    words = " ".join(["ro", *(f"finalstage.{each}" for each in line)])
    reader.stdin.write("\v".join(["", *carried, ""]) + f"\n{words}\n--{argument}\n")
    budget, watchdog = reader.stdout.readline().split()
    return int(budget), watchdog == "1"


def by_stage(carried: list[str], line: list[str], argument: str) -> tuple[int, bool]:
    words = " ".join(f"finalstage.{each}" for each in line)
    place = {"/etc/finalstage.conf": "\n".join(carried)}
    kernel = SimKernel(Machine(settings=place, command_line=words))
    # systemd's --timeout is for processes.
    arguments = [] if argument.startswith("timeout") else [f"--{argument}"]
    options = handover.read(kernel, ["halt", *arguments], {}).options
    return int(options.budget * 1000), options.watchdog


@settings(max_examples=1000, deadline=None)
@given(st.lists(SETTING, max_size=3), st.lists(SETTING, max_size=3), SETTING)
def test_both_read_the_same(
    reader: subprocess.Popen[str], carried: list[str], line: list[str], argument: str
) -> None:
    assert by_guardian(reader, carried, line, argument) == by_stage(carried, line, argument)


@pytest.mark.parametrize(
    ("carried", "line", "argument", "expected"),
    [
        ([], [], "quiet", (90_000, True)),
        (["timeout=40.5", "watchdog=off"], [], "quiet", (40_500, False)),
        (["timeout=1min 30s"], ["timeout=1min"], "quiet", (60_000, True)),
        (["watchdog=off"], ["watchdog=on", "timeout=60"], "budget=24h", (86_400_000, True)),
        (["# timeout=40"], ["timeout=9"], "budget=0", (90_000, True)),
        ([], ["watchdog=off"], "watchdog", (90_000, True)),
    ],
)
def test_the_last_word_counts(
    reader: subprocess.Popen[str],
    carried: list[str],
    line: list[str],
    argument: str,
    expected: tuple[int, bool],
) -> None:
    assert by_guardian(reader, carried, line, argument) == expected
