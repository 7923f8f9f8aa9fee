"""Completion, as real shells do it: what stands on the line after a Tab, word by word.

For a command line that has arguments of every kind; and the scripts that come with the program."""

from __future__ import annotations

import argparse
import os
import pty
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cffi_build import completions
from finalstage import cli
from finalstage.cli.completion_verb import SCRIPTS, script
from finalstage.cli.parsing import Parser

PROMPT = "READY> "
STARTS = {
    "bash": "bash --norc --noprofile -i",
    "zsh": "zsh -f -i",
    "fish": "fish --no-config --private",
}
LOADS = {
    "bash": ". ./bash",
    "zsh": "fpath=(./zsh-functions $fpath); autoload -Uz compinit; compinit -u -d ./dump",
}
AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def parser() -> argparse.ArgumentParser:
    """A parser with arguments of each kind."""
    found = Parser(prog="finalstage")
    verbs = found.add_subparsers(dest="verb", metavar="VERB")
    close = verbs.add_parser("shut-all", help="close it", description="a long description")
    close.add_argument("targets", metavar="TARGET", nargs="*", help="what's to go: [it]")
    close.add_argument("--below", action="store_true", help='this too; $HOME isn\'t "it"')
    close.add_argument("--svg", metavar="FILE", help="a file")
    close.add_argument("--into", metavar="DIR", help="a folder")
    close.add_argument("--how", choices=("gently", "hard"), help="how")
    verbs.add_parser("look", help="look").add_argument("file", metavar="FILE", nargs="?")
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, and with files to find."""
    found = tmp_path_factory.mktemp("completion")
    for shell in SCRIPTS:
        (found / shell).write_text(completions.render(shell, parser()))
    (found / "zsh-functions").mkdir()
    shutil.copy(found / "zsh", found / "zsh-functions" / "_finalstage")
    for name in ("mounts/sp ace", "mounts/plain", "folder one"):
        (found / name).mkdir(parents=True)
    (found / "file one").write_text("")
    return found


def completed(shell: str, place: Path, typed: str) -> list[str]:
    """The words of the line when Tab was pressed behind it, as the shell itself takes them."""
    if shell == "fish":
        return _by_fish(place, typed)
    # Tab; to the begin of the line; to its end; Enter.
    keys = f"{typed}\t\x01printf '<%s>' \x05 '#END'\r"
    said = _typed(shell, place, keys)
    return re.findall(r"<([^<>%]*)>", said)[1:-1]


def _by_fish(place: Path, typed: str) -> list[str]:
    """What fish would put there: its own command says that. It leaves quoting to the line."""
    line = f"source {place}/fish; complete -C {shlex.quote(typed)}"
    said = _inside(["fish", "--no-config", "-c", line], place).decode()
    (found,) = (each.partition("\t")[0] for each in said.splitlines())
    return [*shlex.split(typed)[1 : None if typed.endswith(" ") else -1], found]


def _inside(command: list[str], place: Path) -> bytes:
    return subprocess.run(_namespace(command, place), capture_output=True, check=True).stdout


def _namespace(command: list[str], place: Path) -> list[str]:
    """A command where two more file systems are mounted."""
    mounts = "; ".join(
        f"mount -t tmpfs tmpfs {shlex.quote(str(place / 'mounts' / name))}"
        for name in ("sp ace", "plain")
    )
    text = f"{mounts}; cd {shlex.quote(str(place))}; exec {shlex.join(command)}"
    return ["unshare", *AS_ROOT, "--mount", "sh", "-euc", text]


def _typed(shell: str, place: Path, keys: str) -> str:
    """All that such a shell shows when something is typed at its prompt, until the next one."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="dumb", PS1=PROMPT, COLUMNS="1000", LINES="50")
        command = _namespace(shlex.split(STARTS[shell]), place)
        os.execvp(command[0], command)
    try:
        _until(terminal, PROMPT)
        os.write(terminal, f"{LOADS[shell]}; PS1='GO''> '\r".encode())
        _until(terminal, "GO> ")
        os.write(terminal, keys.encode())
        return _until(terminal, "<#END>")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _until(terminal: int, end: str) -> str:
    said = b""
    while end.encode() not in said:
        said += os.read(terminal, 4096)
    return said.decode()


CASES = [
    ("finalstage sh", ["shut-all"]),
    ("finalstage shut-all --be", ["shut-all", "--below"]),
    ("finalstage shut-all --how ha", ["shut-all", "--how", "hard"]),
    ("finalstage shut-all --svg fil", ["shut-all", "--svg", "file one"]),
    ("finalstage shut-all --into fol", ["shut-all", "--into", "folder one"]),
    ("finalstage look fil", ["look", "file one"]),
]


@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.parametrize(("typed", "expected"), CASES, ids=[typed for typed, _ in CASES])
def test_completes(shell: str, typed: str, expected: list[str], place: Path) -> None:
    # A shell may put a slash behind a folder.
    assert [word.rstrip("/") for word in completed(shell, place, typed)] == expected


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completes_targets_one_after_the_other(shell: str, place: Path) -> None:
    first, second = f"{place}/mounts/plain", f"{place}/mounts/sp ace"
    typed = f"finalstage shut-all {first} --below {place}/mounts/sp"
    found = completed(shell, place, typed)
    assert [word.rstrip("/") for word in found] == ["shut-all", first, "--below", second]


LISTS = {
    "bash": ". ./bash; COMP_WORDS=(finalstage shut-all ''); COMP_CWORD=2; _shtab_finalstage;"
    ' printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": ". ./zsh 2>/dev/null; _alternative() { print -l $targets }; _finalstage_targets",
    "fish": "source fish; complete -C 'finalstage shut-all '",
}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_targets_are_mount_points_and_block_devices(shell: str, place: Path) -> None:
    said = _inside([STARTS[shell].split()[0], "-c", LISTS[shell]], place).decode().splitlines()
    found = {each.partition("\t")[0] for each in said}
    assert {f"{place}/mounts/plain", f"{place}/mounts/sp ace", "/"} <= found
    assert not found & {"/proc", "/sys", "/dev"}
    disks = {
        f"/dev/{each.name}"
        for each in Path("/sys/class/block").iterdir()
        if not each.name.startswith("dm-") and (each / "size").read_text() != "0\n"
    }
    assert {each for each in found if each in disks} == {
        each for each in disks if Path(each).is_block_device()
    }


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_that_come_with_it_are_those_of_its_parser(shell: str) -> None:
    assert script(shell) == completions.render(shell, cli.parser())
    for verb in cli.VERBS:
        assert verb in script(shell)


def test_they_are_installed_where_the_shells_look() -> None:
    for shell, ask in (("zsh", "print -l $fpath"), ("fish", "string join \\n $fish_complete_path")):
        looks = subprocess.run([shell, "-c", ask], capture_output=True, text=True, check=True)
        assert f"/{Path(SCRIPTS[shell]).parent}" in looks.stdout.splitlines()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_prints_a_script(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0
    assert capsys.readouterr().out == script(shell)
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    assert cli.main(["completion"]) == 0
    assert capsys.readouterr().out == script(shell)


def test_without_a_shell_it_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert cli.main(["completion"]) == 1
    said = capsys.readouterr().err
    assert said == "finalstage: which shell? tcsh is none of them; name one: bash, zsh, fish\n"
