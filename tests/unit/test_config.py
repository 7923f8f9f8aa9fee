"""/etc/finalstage.toml: each option right and wrong, where, and that nothing is more than wrong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finalstage.cli import config, keys
from finalstage.cli.config import Configuration
from finalstage.handover import options
from finalstage.handover.options import BY_NAME, Option, Options
from tests.unit.test_handover import carrying

README = Path(__file__).resolve().parents[2] / "README.md"

# What is right, as TOML writes it and as it is understood, and what is wrong, for each option.
RIGHT: dict[str, dict[str, object]] = {
    "timeout": {'"60s"': 60, '"1min 30s"': 90, "10": 10, "12.5": 12.5, '"24h"': 86400},
    "kill-after": {'"10s"': 10, "0.1": 0.1, "600": 600},
    "quiet": {"true": True, "false": False},
    "scrub": {'"auto"': "auto", '"always"': "always", "'never'": "never"},
    "firmware-scrub": {"false": False},
    "width": {"1": 1, "256": 256, "0x10": 16},
    "key-left": {'"poweroff"': "poweroff", '"go-on"': "go-on"},
    "keyfiles": {'["/run/a", "/run/b c"]': ("/run/a", "/run/b c"), "[]": ()},
    "watchdog": {"false": False},
    "systemd.stand-in": {"true": True},
    "systemd.shutdown-tree": {'"other"': "other"},
    "hooks.directory": {'"/srv/hooks"': "/srv/hooks"},
    "hooks.timeout": {'"500ms"': 0.5, "2": 2},
    "hooks.carry": {'["/etc/hosts"]': ("/etc/hosts",)},
    "report.place": {'"none"': "none", '"/dev/sda3"': "/dev/sda3"},
}
NO_SWITCH = ('"on"', "1", "[]", '"true"')
NO_TIME = ('"soon"', '""', "true", "-5", "nan", "inf", "[60]", "1e9", "0x" + 5000 * "f", '"-5s"')
NO_PATHS = ('"/run/a"', '["a"]', '["/run/a", 3]', '["/a:/b"]', "true", r'["/a\nb=c"]', '[["/a"]]')
WRONG: dict[str, tuple[str, ...]] = {
    "timeout": (*NO_TIME, '"9s"', "9", '"25h"'),
    "kill-after": (*NO_TIME, '"0s"', '"11min"'),
    "quiet": NO_SWITCH,
    "scrub": ('"sometimes"', "true", '""', '"AUTO"', '["auto"]'),
    "firmware-scrub": NO_SWITCH,
    "width": ("0", "257", '"8"', "8.0", "true", "-1", "0x" + 5000 * "f"),
    "key-left": ('"reboot"', "false"),
    "keyfiles": NO_PATHS,
    "watchdog": NO_SWITCH,
    "systemd.stand-in": NO_SWITCH,
    "systemd.shutdown-tree": ('"dracut"', "true"),
    "hooks.directory": ('"hooks"', '["/srv/hooks"]', "3", '""'),
    "hooks.timeout": (*NO_TIME, '"2h"'),
    "hooks.carry": NO_PATHS,
    "report.place": ('"here"', '"sda3"', "false", '["efi"]', '""', r'"/dev/a\nb"'),
}


def read(text: str | bytes, folder: Path) -> Configuration:
    """Read a file with this content."""
    place = folder / "finalstage.toml"
    place.write_bytes(text if isinstance(text, bytes) else text.encode())
    place.chmod(0o644)
    return config.read(place)


def said(found: Configuration) -> list[str]:
    return [str(each).replace(f"{found.place.parent}/", "") for each in found.problems]


def setting(name: str, value: str) -> str:
    """A file that sets one option, on line 3."""
    table, _, key = name.rpartition(".")
    return f"# of one machine\n{f'[{table}]' if table else ''}\n{key} = {value}\n"


def cases(of: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, values in of.items() for value in values]


def test_all_options_are_among_these() -> None:
    names = [option.name for option in options.ALL]
    assert sorted(RIGHT) == sorted(WRONG) == sorted(names)
    assert sorted(option.field for option in options.ALL) == sorted(vars(Options()))


@pytest.mark.parametrize(("name", "value"), cases(RIGHT))
def test_what_is_right_is_taken_and_carried(name: str, value: str, tmp_path: Path) -> None:
    found = read(setting(name, value), tmp_path)
    meant = RIGHT[name][value]
    assert said(found) == []
    assert getattr(found.options, BY_NAME[name].field) == meant
    carried = carrying(*found.text.splitlines())
    assert carried.problems == ()
    staged_only = BY_NAME[name].readers == (options.STAGING,) or meant == ()
    assert carried.options == (Options() if staged_only else found.options)


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_what_is_wrong_is_named_and_the_default_holds(
    name: str, value: str, tmp_path: Path
) -> None:
    found = read(setting(name, value) + "[hooks2]", tmp_path)
    (line, _) = said(found)
    assert line.startswith(f"finalstage.toml:3: {name} must not be ")
    assert line.endswith(f"; {config.remedy(BY_NAME[name])}")
    assert found.options == Options() and found.text == ""


def test_the_rest_is_used(tmp_path: Path) -> None:
    found = read('timeout = "soon"\nwidth = 8\n[hooks]\ntimeout = []\ncarry = ["/a"]', tmp_path)
    assert [problem.line for problem in found.problems] == [1, 4]
    assert found.options == Options(width=8, hooks_carry=("/a",))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tiemout = 60", "1: there is no key 'tiemout'; did you mean timeout?"),
        ("x = 1", "1: there is no key 'x'; remove it"),
        ("\nbudget = 60", "2: there is no key budget; it is called timeout here"),
        ("stand-in = true", "1: there is no key 'stand-in'; put it below [systemd]"),
        ("[systemd]\nwidth = 3", "2: there is no key 'systemd.width'; put it above all tables"),
        ("[hook]\ntimeout = 3", "1: there is no table 'hook'; did you mean hooks?"),
        ("hooks = 3", "1: hooks is a table; write [hooks], and its keys below that"),
        ("[[hooks]]\ncarry = []", "1: hooks is a table; write [hooks], and its keys below that"),
        ("[hooks.timeout]\nx = 1", "1: hooks.timeout must not be {'x': 1}; write a time such as"),
        ('"a\\nb" = 1', "1: there is no key 'a\\\\nb'; remove it"),
        ("width = \n", "1: not TOML, so none of it is used: Invalid value; see https://toml.io"),
        ("a = 1\na = 2", "2: not TOML, so none of it is used: Cannot overwrite a value; see"),
        ("a = 1\nb = [", "2: not TOML, so none of it is used: Invalid value; see"),
        (b"a = 1\n# \xff\nb = 2", "2: not UTF-8: none of it is used; save it as UTF-8"),
        ("a = " + 3000 * "[", ": not TOML, so none of it is used: nested too deeply; see"),
        ("a = " + 70_000 * "1", ": too large, 70004 bytes; it may have 65536"),
    ],
)
def test_where_and_what_is_wrong(text: str | bytes, line: str, tmp_path: Path) -> None:
    found = read(text, tmp_path)
    (only,) = said(found)
    place = "finalstage.toml" if line.startswith(":") else "finalstage.toml:"
    assert only.startswith(place + line.replace("\\\\", "\\"))
    assert found.options == Options()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a = 1\nb = 2", {("a",): 1, ("b",): 2}),
        ("# x\n\n[hooks] # y\n\n  carry = [\n  '/a',\n# ]\n]\nz = 1\n",
         {("hooks",): 3, ("hooks", "carry"): 5, ("hooks", "z"): 9}),
        ("a = '''\n[hooks]\nb = 3\n'''\r\nhooks.c = { d = 1 }",
         {("a",): 1, ("hooks",): 5, ("hooks", "c"): 5}),
        ("systemd = { x = 1, y = 2 }",
         {("systemd",): 1, ("systemd", "x"): 1, ("systemd", "y"): 1}),
        ("[a.b]\nc.d = 1\n[[e]]\nf = 1\n[[e]]",
         {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 2, ("e",): 3, ("e", "f"): 4}),
        ("", {}),
    ],
)  # fmt: skip
def test_lines(text: str, lines: dict[tuple[str, ...], int]) -> None:
    assert config.lines_of(text.replace("\r\n", "\n")) == lines


# What a file may be made of, so that more than a few texts are TOML.
NAMES = st.sampled_from([*BY_NAME, "hooks", "systemd", "x", '"a b"', "hooks.timeout.x"])
WORDS = st.sampled_from(
    [value for values in (*RIGHT.values(), *WRONG.values()) for value in values]
)
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, NAMES, WORDS),
    st.builds("[{}]".format, NAMES),
    st.sampled_from(["# x", "", "[[hooks]]", "a = '''", "b = [", "]"]),
    st.text(),
)
TEXTS = st.one_of(st.binary(), st.lists(STATEMENTS).map("\n".join).map(str.encode))


@settings(max_examples=500, deadline=None)
@given(TEXTS)
@example(b"x = " + 20_000 * b"[")
@example(b"x = " + 9_000 * b'"\n')
@example(b"timeout = 0x" + 60_000 * b"f")
@example(b"timeout = " + 60_000 * b"9")
def test_no_text_whatever_is_more_than_wrong(text: bytes) -> None:
    values, lines, problems = config.parse(text, "/etc/finalstage.toml")
    options_of = Options().but(**{BY_NAME[name].field: value for name, value in values.items()})
    found = Configuration(Path("/etc"), values, tuple(problems), options_of, lines)
    assert all("\n" not in str(problem) for problem in problems)
    assert all(problem.remedy for problem in problems)
    carried = carrying(*found.text.splitlines())
    assert carried.problems == ()
    for option in options.ALL:
        if option.readers != (options.STAGING,) and option.name in values:
            meant = values[option.name]
            assert getattr(carried.options, option.field) == meant


def test_what_is_not_there_is_no_problem(tmp_path: Path) -> None:
    found = config.read(tmp_path / "none")
    assert (said(found), found.options, found.text) == ([], Options(), "")


def test_what_others_can_write_is_not_used(tmp_path: Path) -> None:
    place = tmp_path / "finalstage.toml"
    assert read("width = 3", tmp_path).options.width == 3  # the control
    place.chmod(0o664)
    (problem,) = config.read(place).problems
    assert problem.what == "others than root can write to it"
    assert problem.remedy == f"chmod go-w {place}"
    place.chmod(0o644)
    subprocess.run(["chown", "daemon", place], check=True)
    found = config.read(place)
    assert found.options == Options()
    assert found.problems[0].what == "not root's, so it is not trusted"


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "pipe"
    subprocess.run(["mkfifo", "-m", "644", place], check=True)
    for each, what in ((place, "not a regular file"), (tmp_path, "not a regular file")):
        (problem,) = config.read(each).problems
        assert problem.what == what


def test_the_kernels_command_line_comes_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = tmp_path / "cmdline"
    line.write_text("ro finalstage.width=4 finalstage.hooks.timeout=x finalstage.systemd.stand-in")
    monkeypatch.setattr(config, "COMMAND_LINE", line)
    found = read("width = 3\nquiet = true", tmp_path)
    assert found.options == Options(width=4, quiet=True, stand_in=True)
    assert found.text == "width=3\nquiet=on\n"  # the stage reads the command line by itself
    assert said(found) == [
        "cmdline:1: finalstage.hooks.timeout=x; it may be a time span, 100ms to 1h"
    ]
    assert found.sets("systemd.stand-in") and found.sets("quiet") and not found.sets("scrub")


# -- what is said of them ------------------------------------------------------------------------


def test_all_are_described_and_only_these() -> None:
    names = {option.name for option in options.ALL}
    assert keys.SHORT.keys() == keys.LONG.keys() == names
    assert {reader for option in options.ALL for reader in option.readers} == keys.READERS.keys()
    assert {option.kind for option in options.ALL} == keys.KINDS.keys()


def test_the_part_of_the_manual_names_all_with_their_defaults() -> None:
    text = keys.scdoc()
    assert re.findall(r"^## (.*)$", text, re.M) == [
        *("Above all tables", "[systemd]", "[hooks]", "[report]"),
    ]
    assert re.findall(r"^\*(\S+)\* = ", text, re.M) == [
        option.name.rpartition(".")[2] for option in options.ALL
    ]
    assert '*timeout* = a time (default: "90s")' in text
    assert "\t" in text and not re.search(r"^ ", text, re.M)


@pytest.mark.parametrize("option", options.ALL, ids=lambda option: option.name)
def test_the_default_as_it_is_written_is_right(option: Option, tmp_path: Path) -> None:
    found = read(setting(option.name, keys.default(option)), tmp_path)
    assert said(found) == [] and found.options == Options()
    assert option.name in found.values


def test_the_readme_has_them_all() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ", README.read_text(), re.M)
    assert dict(rows) == {option.name: keys.default(option) for option in options.ALL}
