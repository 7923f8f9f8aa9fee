"""The command line: examples in the help of each verb, and one line where it makes no sense."""

from __future__ import annotations

import shlex

import pytest

from finalstage import cli
from finalstage.cli.errors import NOT_UNDERSTOOD
from finalstage.cli.parsing import EXAMPLES
from tests.unit.test_man import parsers


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that is said on standard error about a command line that makes no sense."""
    assert cli.main([*words]) == NOT_UNDERSTOOD
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    return line


def examples(verb: str) -> list[str]:
    """The examples in the help of a verb, as they would be typed."""
    text = parsers()[verb].format_help()
    return text.partition(EXAMPLES)[2].splitlines()


@pytest.mark.parametrize("verb", parsers())
def test_each_verb_has_examples_that_can_be_typed(verb: str) -> None:
    assert examples(verb)
    for line in examples(verb):
        typed, hash_, comment = line.partition("  # ")
        assert hash_ and comment and len(line) < 100
        words = [word for word in shlex.split(typed, posix=True) if not word.startswith(">")]
        words = words[: next((at for at, word in enumerate(words) if word in ("&&", "|")), None)]
        assert words[:2] == ["finalstage", verb]
        assert cli.parser().parse_args(words[1:]).verb == verb


def test_each_verb_is_in_the_module_that_is_imported_for_it() -> None:
    assert list(parsers()) == list(cli.VERBS)
    for verb in cli.VERBS:
        typed = shlex.split(examples(verb)[0].partition(" >")[0], comments=True)
        assert cli.parser([verb]).parse_args(typed[1:]).verb == verb


def test_help_is_had_in_each_way(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for words in (["help", "install"], ["install", "--help"], ["install", "-h"]):
        assert cli.main(words) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith("usage: finalstage install ") and len(set(texts)) == 1
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out.startswith("usage: finalstage [-h]")


def test_without_a_word_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == NOT_UNDERSTOOD
    told = capsys.readouterr()
    assert told.out == "" and all(verb in told.err for verb in cli.VERBS)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["stge"], "there is no verb 'stge'; do you mean stage?"),
        (["help", "instal"], "there is no verb 'instal'; do you mean install?"),
        (["frobnicate"], "there is no verb 'frobnicate'; see finalstage --help"),
        (["--verbose"], "the following arguments are required: VERB; see finalstage --help"),
        (["install", "--dry"], "not understood: --dry; see finalstage help install"),
        (["check", "a", "b\nc"], "not understood: b\\nc; see finalstage help check"),
        (["install", "--root"], "argument --root: expected one argument; see finalstage install"),
        (["completion", "csh"], "argument SHELL: invalid choice: 'csh' (choose from 'bash',"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, *words).startswith(f"finalstage: {line}")
