"""What is said where nobody can read it: a verb goes on to its end, and the status says it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from finalstage.cli.errors import DONE, FAILED, INTERRUPTED, NOT_UNDERSTOOD
from finalstage.cli.voice import one_line

VERB = """
import sys
from pathlib import Path
from finalstage import cli
from finalstage.cli.output import Output
from finalstage.cli.problems import Problem

def run(options):
    for number in range(3):
        yield f"step {number}"
    yield Output("caf\\u00e9 \\udcff")
    yield Problem("/a b", 0, "odd", "mend it")
    Path(options.directory).write_text("done")

def parser(wanted):
    found = known(wanted)
    found._actions[-1].choices["stage"].set_defaults(run=run)
    return found

known, cli.parser = cli.parser, parser
sys.exit(cli.main(sys.argv[1:]))
"""
"""A verb that says a few things, and then has done something."""

WAITING = """
import signal, sys
from finalstage import cli
cli.parser = lambda wanted: signal.raise_signal(signal.SIGINT)
sys.exit(cli.main(["check"]))
"""


def shell(script: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run shell text in which `$verb` is such a verb; whether it was done says the file `done`."""
    verb = f"'{sys.executable}' -c \"$CODE\" stage '{tmp_path / 'done'}'"
    text = script.replace("$verb", verb)
    known = {**os.environ, "CODE": VERB, **environment}
    return subprocess.run(["bash", "-c", text], env=known, capture_output=True)


def was_done(tmp_path: Path) -> bool:
    return (tmp_path / "done").exists()


def test_what_can_be_read_is_said(tmp_path: Path) -> None:
    ran = shell("$verb", tmp_path)
    assert ran.returncode == DONE and was_done(tmp_path)
    assert ran.stdout.splitlines()[:3] == [b"finalstage: step %d" % each for each in range(3)]
    assert ran.stderr == b"finalstage: /a b: odd; mend it\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("$verb >/dev/full", b"No space left on device"),
        ("$verb >&-", b"it is closed"),
    ],
)
def test_a_verb_goes_on_where_it_cannot_write(script: str, why: bytes, tmp_path: Path) -> None:
    ran = shell(script, tmp_path)
    assert ran.returncode == FAILED and was_done(tmp_path)
    (_, line) = ran.stderr.splitlines()
    assert line == b"finalstage: cannot write to standard output: " + why


def test_a_verb_goes_on_where_somebody_has_read_enough(tmp_path: Path) -> None:
    ran = shell(
        "exec 2>&1; trap '' PIPE; $verb 2>/dev/null | true; echo ${PIPESTATUS[0]}", tmp_path
    )
    assert ran.stdout == b"1\n" and was_done(tmp_path)


@pytest.mark.parametrize("script", ["$verb 2>&-", "$verb 2>/dev/full", "$verb <&- 2>&-"])
def test_a_verb_goes_on_where_it_cannot_complain(script: str, tmp_path: Path) -> None:
    ran = shell(script, tmp_path)
    assert ran.returncode == DONE and was_done(tmp_path)
    assert b"odd" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("words", ["--help", "--version", "help stage"])
def test_help_that_cannot_be_written(words: str) -> None:
    line = f"{sys.executable} -m cffi_build.entry_cli {words} >/dev/full"
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert ran.returncode == FAILED
    assert ran.stderr == ("finalstage: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_will_do(encoding: str, tmp_path: Path) -> None:
    ran = shell("$verb", tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert ran.returncode == DONE and was_done(tmp_path)
    assert b"caf" in ran.stdout


def test_an_interruption_is_one_line() -> None:
    ran = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (
        INTERRUPTED,
        "",
        "finalstage: interrupted\n",
    )


def on_terminal(**environment: str) -> bytes:
    """What is said about a word that is no verb, on a terminal."""
    main, other = pty.openpty()
    command = [sys.executable, "-m", "cffi_build.entry_cli", "stge"]
    known = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    known |= {"TERM": "xterm-256color", **environment}
    status = subprocess.run(command, env=known, stdout=other, stderr=other).returncode
    assert status == NOT_UNDERSTOOD
    os.close(other)
    said = os.read(main, 4096)
    os.close(main)
    return said


def test_errors_are_in_colour_where_a_terminal_has_it() -> None:
    plain = b"finalstage: there is no verb 'stge'; do you mean stage?\r\n"
    assert on_terminal() == plain.replace(b"finalstage:", b"\x1b[1;31mfinalstage:\x1b[0m")
    assert on_terminal(TERM="dumb") == plain
    assert b"\x1b[1m" in on_terminal(NO_COLOR="1") and b"31" not in on_terminal(NO_COLOR="1")


def test_odd_letters_are_escaped() -> None:
    assert one_line("a\nb\x1b[31m\udcff\u202e é") == "a\\nb\\x1b[31m\\xff\\u202e é"
