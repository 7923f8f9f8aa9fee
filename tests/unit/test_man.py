"""The manual pages say all that there is, and nothing else, in a form that readers accept."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from finalstage import cli
from finalstage.cli import config
from finalstage.cli.install import overlay
from finalstage.handover import VERBS, options

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "dist/man").glob("man*/*"))
OF_SYSTEMCTL = {"--now", "--signal"}
OF_SCDOC = "skipping paragraph macro"
"""What scdoc(1) writes at the end of each paragraph, to be sure."""


def source(name: str) -> str:
    """The source of a page, without marks."""
    return (ROOT / "finalstage/man" / f"{name}.scd").read_text().replace("*", "").replace("_", "")


def shown(page: Path) -> str:
    """A page as text, as a reader of it sees it."""
    command = ("mandoc", "-T", "utf8", "-O", "width=200", page)
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(".\b", "", text)  # bold and underlined letters are written over one another


def page(name: str) -> str:
    """The text of one of them."""
    (found,) = (page for page in PAGES if page.name == name)
    return shown(found)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all verbs."""
    for action in cli.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("there are no verbs")


def complaints(page: Path) -> list[str]:
    """What mandoc(1) finds wrong with a page."""
    command = ("mandoc", "-T", "lint", "-W", "warning", page)
    said = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [line for line in said if OF_SCDOC not in line]


def test_there_are_three() -> None:
    names = [page.name for page in PAGES]
    assert names == ["finalstage.toml.5", "finalstage-answers.7", "finalstage.8"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_wrong_with_their_form(page: Path) -> None:
    assert complaints(page) == []


def test_a_wrong_form_is_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.8"
    wrong.write_text(PAGES[1].read_text().replace(".SH NAME", ".XX NAME"))
    assert complaints(wrong)


@pytest.mark.parametrize("verb", parsers())
def test_each_verb_and_each_of_its_options_is_said(verb: str) -> None:
    text = page("finalstage.8")
    synopsis = next(line for line in text.splitlines() if f"finalstage {verb} " in line)
    for action in parsers()[verb]._actions:
        for option in set(action.option_strings) - {"-h", "--help"}:
            assert option in synopsis and text.count(option) > 1, option
    assert re.search(rf"^ +{verb}$", text, re.MULTILINE)


def test_no_other_verb_or_option_is_said() -> None:
    text = source("finalstage.8")
    verbs = set(re.findall(r"^finalstage ([a-z][a-z-]*)", text, re.MULTILINE))
    assert verbs == set(parsers())
    known = (
        {
            option
            for each in parsers().values()
            for action in each._actions
            for option in action.option_strings
        }
        | {"--version", "--stage", "--K"}
        | OF_SYSTEMCTL
    )
    assert set(re.findall(r"--[a-zA-Z][a-z-]*", text)) <= known


def test_what_can_be_installed_and_asked_for_is_said() -> None:
    text = " ".join(source("finalstage.8").split())
    assert f"Which it is: {overlay.known()}." in text
    assert [verb for verb in VERBS if not re.search(rf"\b{verb}\b", text)] == []


def test_the_examples_can_be_typed() -> None:
    examples = re.findall(
        r"^\t?(finalstage [^\n]*?)(?:\+\+)?$",
        source("finalstage.8").partition("# EXAMPLES")[2],
        re.MULTILINE,
    )
    assert len(examples) == 11
    for example in examples:
        cli.parser().parse_args(shlex.split(example)[1:])


def test_each_key_is_said_and_no_other() -> None:
    text = page("finalstage.toml.5")
    entries = re.findall(r"^ +([a-z-]+) = [^\n]*\(default: (.*)\)$", text, re.MULTILINE)
    assert [name for name, _ in entries] == [
        option.name.rpartition(".")[2] for option in options.ALL
    ]


def test_the_example_of_a_configuration_is_one(tmp_path: Path) -> None:
    lines = source("finalstage.toml.5").partition("# EXAMPLE\n\n\t")[2].partition("\n\n")[0]
    place = tmp_path / "finalstage.toml"
    place.write_text(lines.replace("++\n", "\n").removesuffix("++"))
    found = config.read(place)
    assert found.problems == ()
    assert set(found.values) == {
        "timeout", "key-left", "keyfiles", "systemd.stand-in", "hooks.carry",
    }  # fmt: skip


def test_the_answers_name_tests_that_there_are() -> None:
    text = (ROOT / "finalstage/man/finalstage-answers.7.scd").read_text()
    form = r"^\.venv/bin/python -m pytest ([^ \n]+)(?: -k '(.*)')?$"
    commands = re.findall(form, text, re.MULTILINE)
    assert len(commands) == 3
    for path, words in commands:
        tests = (ROOT / path).read_text()
        assert all(re.search(rf"def test_\w*{word}", tests) for word in words.split(" or "))


def test_each_question_is_answered_first_and_shown() -> None:
    text = (ROOT / "finalstage/man/finalstage-answers.7.scd").read_text()
    questions = re.findall(r"^# ([^\n]*\?)\n\n(.*?)(?=^# )", text, re.MULTILINE | re.DOTALL)
    assert len(questions) == 5
    for question, answer in questions:
        assert answer.startswith("*"), question
        assert "\n```\n" in answer and re.search(r"\w+\(\)|/\w+\.c", answer), question
