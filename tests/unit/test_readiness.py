"""What `finalstage check` makes of its findings: order, verdict, lines, JSON, a table."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from finalstage import cli
from finalstage.cli import inside
from finalstage.cli.check import table, verb
from finalstage.cli.check.readiness import OK, PROBLEM, SCHEMA, UNKNOWN, WARNING, Finding, Readiness
from finalstage.cli.errors import NOT_UNDERSTOOD
from finalstage.cli.problems import Problem
from tests.unit.files_kernel import machine

TREE = Finding("tree", PROBLEM, "nothing is staged", "finalstage stage")
DOG = Finding("watchdog", WARNING, "there is none", "load a driver")
UNSEEN = Finding("start", UNKNOWN, "whether it starts", "use sudo")
FINE = Finding("kexec", OK, "no kernel is loaded")
TYPED = Finding.of("configuration", Problem("/etc/x.toml", 3, "no key", "remove it"))
ODD = Finding("layers", WARNING, "ext4 /a\nb will stay\x1b[2J", "mv /a\nb c")
ALL = (FINE, UNSEEN, DOG, TREE, TYPED, ODD)


@pytest.fixture(scope="module")
def schema() -> Any:
    """The schema of --json, a valid one."""
    found = json.loads(inside.schema(SCHEMA))
    jsonschema.Draft202012Validator.check_schema(found)
    return found


def test_the_weightiest_comes_first() -> None:
    verdicts = [each.verdict for each in Readiness.of(ALL).findings]
    assert verdicts == [PROBLEM, PROBLEM, WARNING, WARNING, UNKNOWN, OK]


@pytest.mark.parametrize(
    ("findings", "ready", "verdict"),
    [
        ((), True, "ready"),
        ((FINE,), True, "ready"),
        ((FINE, DOG), True, "ready, with 1 warning"),
        ((DOG, DOG, UNSEEN), True, "ready, with 2 warnings, 1 unknown"),
        ((UNSEEN,), True, "ready, 1 unknown"),
        ((TREE,), False, "not ready: 1 problem"),
        (ALL, False, "not ready: 2 problems, 2 warnings, 1 unknown"),
    ],
)
def test_what_it_amounts_to(findings: tuple[Finding, ...], ready: bool, verdict: str) -> None:
    found = Readiness.of(findings)
    assert (found.is_ready, found.verdict) == (ready, verdict)


def test_each_finding_is_one_line_that_is_easily_searched() -> None:
    assert list(Readiness.of(ALL).lines()) == [
        "problem: tree: nothing is staged; finalstage stage",
        "/etc/x.toml:3: no key; remove it",
        "warning: watchdog: there is none; load a driver",
        r"warning: layers: ext4 /a\nb will stay\x1b[2J; mv /a\nb c",
        "unknown: start: whether it starts; use sudo",
        "ok: kexec: no kernel is loaded",
        "finalstage: not ready: 2 problems, 2 warnings, 1 unknown",
    ]


@pytest.mark.parametrize("findings", [(), ALL])
def test_json_is_as_its_schema_says(findings: tuple[Finding, ...], schema: Any) -> None:
    said = Readiness.of(findings).as_json()
    jsonschema.validate(said, schema)
    assert json.loads(json.dumps(said)) == said


@pytest.mark.parametrize("field", ["ready", "counts", "findings"])
def test_a_field_that_is_missing_is_noticed(field: str, schema: Any) -> None:
    said = Readiness.of(ALL).as_json()
    del said[field]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(said, schema)


def drawn(encoding: str = "utf-8", **of_console: Any) -> str:
    """The table on a terminal."""
    with io.TextIOWrapper(io.BytesIO(), encoding) as file:
        console = Console(file=file, width=90, highlight=False, **of_console)
        return table.drawn(Readiness.of(ALL), console)


def test_a_table_has_all_and_the_verdict_at_its_end() -> None:
    text = drawn()
    for each in ALL:
        assert each.name in text
    assert "/etc/x.toml:3: no key" in text and r"/a\nb" in text
    assert text.endswith("finalstage: not ready: 2 problems, 2 warnings, 1 unknown")
    assert "\x1b" not in text


def test_colours_are_where_the_terminal_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal: dict[str, Any] = {"force_terminal": True, "color_system": "standard"}
    assert "\x1b[1;31m" in drawn(**terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in drawn(**terminal)


def test_a_terminal_without_other_letters_gets_none() -> None:
    assert drawn(encoding="ascii").isascii()


# -- the verb --------------------------------------------------------------------------------------


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What is found when the verb is called."""
    found: list[Finding] = []

    def look(_: object) -> Iterator[Finding]:
        yield from found

    monkeypatch.setattr(verb, "CHECKS", {"some": look})
    return found


def test_the_status_says_whether_it_is_ready(
    finds: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    finds += [FINE, DOG]
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out.endswith("\nfinalstage: ready, with 1 warning\n")
    finds += [TREE]
    assert cli.main(["check"]) == 1
    out, errors = capsys.readouterr()
    assert out.endswith("\nfinalstage: not ready: 1 problem, 1 warning\n") and errors == ""


def test_quiet_says_nothing_where_all_is_well_and_else_what_is_not(
    finds: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    finds += [FINE]
    assert cli.main(["check", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    finds += [DOG]
    assert cli.main(["check", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(DOG), "finalstage: ready, with 1 warning"]


def test_json_and_its_schema_are_printed(
    finds: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    finds += ALL
    assert cli.main(["check", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert cli.main(["check", "--schema"]) == 0
    jsonschema.validate(said, json.loads(capsys.readouterr().out))
    assert said["findings"][1] == {
        "name": "configuration",
        "verdict": "problem",
        "found": "no key",
        "remedy": "remove it",
        "place": "/etc/x.toml",
        "line": 3,
    }


def test_one_file_as_json(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--json", f"{tmp_path}/none"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["found"] == "not there" and finding["place"] == f"{tmp_path}/none"


@pytest.mark.parametrize("words", [("--json", "--quiet"), ("--nothing",), ("a", "b")])
def test_what_makes_no_sense_has_status_2(words: tuple[str, ...]) -> None:
    assert cli.main(["check", *words]) == NOT_UNDERSTOOD


def test_each_check_looks_at_this_very_machine() -> None:
    """Whatever it is like: none raises, and what is not well has a remedy."""
    machine = verb.this_machine()
    for look in verb.CHECKS.values():
        for each in look(machine):
            assert each.found and (each.remedy or each.verdict == OK), each


def test_a_check_that_breaks_off_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks_off(_: object) -> Iterator[Finding]:
        yield FINE
        raise FileNotFoundError(2, "No such file or directory", "/proc/self/mountinfo")

    def goes_on(_: object) -> Iterator[Finding]:
        yield DOG

    monkeypatch.setattr(verb, "CHECKS", {"tree": breaks_off, "kernel": goes_on})
    first, broken, last = verb.findings(machine())
    assert (first, last) == (FINE, DOG)
    assert (broken.name, broken.verdict) == ("tree", UNKNOWN)
    assert "/proc/self/mountinfo" in broken.found


def test_a_name_with_a_new_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "/no/a\nb"]) == 1
    assert capsys.readouterr().out == "/no/a\\nb: not there; write it, or name another file\n"
