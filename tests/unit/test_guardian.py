"""The line to the guardian, both ends: what the stage writes, and what the guardian makes of it."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from finalstage.guardian import LONGEST_LINE, VARIABLE, Guardian

LAUNCHER = Path(__file__).resolve().parents[2] / "finalstage" / "launcher"
READER = r"""
#include "channel.c"
#include <stdio.h>
#include <time.h>

long now(void)
{
    return 1000 * SECOND;
}

int main(void)
{
    struct told told = {0};
    int stage = open_channel();
    char piece[4096];
    size_t got;

    while ((got = fread(piece, 1, sizeof piece, stdin)) > 0) {
        if (write(stage, piece, got) != (ssize_t)got)
            return 1;
        read_channel(&told);
    }
    close(stage);
    read_channel(&told);
    if (channel() >= 0)
        return 2;
    printf("%s %ld %d %d [%s] %ld", told.verb ? told.verb : "-", told.deadline, told.alive,
           told.sealed, told.phase, told.heard);
    return 0;
}
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that reads lines as the guardian does, and prints what it made of them."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "reader.c").write_text(READER)
    program = folder / "reader"
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
    subprocess.run(
        ["gcc", "-g", *checks, f"-I{LAUNCHER}", "-o", program, folder / "reader.c"], check=True
    )
    return program


def understood(reader: Path, written: bytes) -> str:
    ran = subprocess.run([reader], input=written, stdout=subprocess.PIPE, check=True)
    return ran.stdout.decode()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"", "- 0 0 0 [] 0"),
        (b"verb reboot\n", "reboot 0 0 0 [] 1000000"),
        (b"verb explode\n", "- 0 0 0 [] 1000000"),
        (b"verb\n", "- 0 0 0 [] 0"),
        (b"deadline 1090\n", "- 1090000 0 0 [] 1000000"),
        (b"deadline 99999999999999999999\ndeadline -3\n", "- 0 0 0 [] 1000000"),
        (b"alive\nsealed\n", "- 0 1 1 [] 1000000"),
        (b"phase seal\n", "- 0 1 0 [seal] 1000000"),
        (b"phase " + b"x" * 57 + b"\n", f"- 0 1 0 [{'x' * 15}] 1000000"),
        (b"phase " + b"x" * 58 + b"\nalive\n", "- 0 1 0 [] 1000000"),
        (b"alive", "- 0 0 0 [] 0"),
        (b"x" * 100_000 + b"\nverb halt\n", "halt 0 0 0 [] 1000000"),
        (b"alive\0\n\0alive\n", "- 0 1 0 [] 1000000"),
    ],
)
def test_lines(reader: Path, written: bytes, expected: str) -> None:
    assert understood(reader, written) == expected


@pytest.mark.parametrize("seed", range(20))
def test_garbage_does_no_harm(reader: Path, seed: int) -> None:
    chance = random.Random(seed)
    words = [b"verb ", b"deadline ", b"phase ", b"alive", b"sealed", b"\n", b"\0", b"9" * 30]
    pieces = [chance.choice([*words, chance.randbytes(chance.randrange(90))]) for _ in range(2000)]
    assert understood(reader, b"".join(pieces))


@pytest.fixture
def pipe() -> tuple[int, Guardian]:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    return ours, Guardian({VARIABLE: str(theirs)})


def test_tells_whole_lines(pipe: tuple[int, Guardian]) -> None:
    end, guardian = pipe
    guardian.tell("verb reboot")
    guardian.tell("phase " + "x" * 100)
    first, second, rest = os.read(end, 1000).split(b"\n")
    assert (first, rest) == (b"verb reboot", b"")
    assert len(second) == LONGEST_LINE - 1


def test_signs_of_life_are_few(pipe: tuple[int, Guardian]) -> None:
    end, guardian = pipe
    for _ in range(1000):
        guardian.alive()
    assert os.read(end, 1000) == b"alive\n"


def test_a_full_pipe_does_not_block(pipe: tuple[int, Guardian]) -> None:
    _, guardian = pipe
    for _ in range(20_000):
        guardian.tell("alive")


def test_a_closed_pipe_does_not_matter(pipe: tuple[int, Guardian]) -> None:
    end, guardian = pipe
    os.close(end)
    guardian.tell("alive")


def test_is_not_inherited() -> None:
    _, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    Guardian({VARIABLE: str(theirs)})
    assert not os.get_inheritable(theirs)


@pytest.mark.parametrize("number", [None, "", "x", "-1", "999", "9" * 40, "²"])
def test_without_a_guardian(number: str | None) -> None:
    Guardian({} if number is None else {VARIABLE: number}).tell("alive")
