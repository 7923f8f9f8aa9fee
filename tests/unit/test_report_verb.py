"""`finalstage report`: where it looks, what it shows, and each thing that may be wrong there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finalstage import keep
from finalstage.cli import config, fstab, main, svg
from finalstage.cli.report import places, report_file, shutdown
from finalstage.cli.report import text as report_text
from finalstage.cli.report.shutdown import NoReportError
from finalstage.report import MAGIC, Report, checksum

SVG = "{http://www.w3.org/2000/svg}"
WHEN = 1_700_000_000
Shown = Callable[..., tuple[int, str, str]]


def report(when: int = WHEN, most: int = 4000, name: str = "/home") -> bytes:
    """A report of a machine on which one layer remains."""
    found = Report(urgent=("remains ",))
    take = found.take
    take(0.0, "phase", {"phase": "prepare"})
    take(0.01, "start", {"verb": "reboot", "when": when})
    take(0.1, "note", {"words": "killing what does not end by itself"})
    take(0.2, "phase", {"phase": "close"})
    facts = {"kind": "mount", "id": "mount:1", "seconds": 0.5, "error": "busy"}
    take(0.8, "close", {**facts, "layer": f"ext4 {name}"})
    facts = {"kind": "dm", "id": "block:253:0", "seconds": 0.25, "error": None}
    take(0.9, "close", {**facts, "layer": "crypt <swap>"})
    take(1.0, "phase", {"phase": "report"})
    take(1.1, "problem", {"words": f"remains ext4 {name}: busy; held by bash[7]"})
    take(1.2, "summary", {"gone": 1, "remaining": [f"ext4 {name}"], "keys_left": 0})
    return found.written(most)


@pytest.fixture
def shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shown:
    """Run the verb on a machine whose places lie in a folder: its status, and what it printed."""
    monkeypatch.setattr(places, "EFI", tmp_path / "efivars")
    monkeypatch.setattr(places, "PSTORE", (tmp_path / "pstore", tmp_path / "systemd-pstore"))
    monkeypatch.setattr(config, "PLACE", tmp_path / "finalstage.toml")

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(["report", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(data)


def in_variable(folder: Path, data: bytes) -> None:
    put(folder / "efivars" / keep.VARIABLE, b"\7\0\0\0" + data)


def on_partition(folder: Path, data: bytes) -> None:
    """Configure a place, which here is a file, and have this there."""
    put(folder / "disk", data)
    put(folder / "finalstage.toml", f'[report]\nplace = "{folder}/disk"\n'.encode())
    (folder / "finalstage.toml").chmod(0o644)


def log(data: bytes) -> bytes:
    """The end of a kernel's log as pstore has it, with a report in two pieces."""
    head, _, body = data[len(MAGIC) :].partition(b"\n")
    pieces = (body[:300], body[300:])
    lines = [
        b"<7>[    9.%d] finalstage: kept %d/2 %b %b" % (number, number, head, piece)
        for number, piece in enumerate(pieces, 1)
    ]
    return b"Oops#1 Part1\n<6>[ 1.0] usb 1-1: new device\n" + b"\n".join(lines) + b"\n"


def test_the_text_has_problems_first(tmp_path: Path, shown: Shown) -> None:
    in_variable(tmp_path, report())
    status, out, err = shown()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("reboot on 2023-11-1") and lines[0].endswith(" before this start")
    assert lines[1].startswith("from: EFI variable, by finalstage ")
    assert lines[2] == "closed 1, remaining 1, keys left 0 in 1.20 s"
    assert lines[5].split(maxsplit=2) == [
        *("1.100", "report", "remains ext4 /home: busy; held by bash[7]"),
    ]
    assert "\x1b" not in out  # no terminal
    rows = [line.split() for line in lines]
    assert rows.index(["ext4", "/home", "close", "0.500", "busy"]) < rows.index(
        ["crypt", "<swap>", "close", "0.250", "closed"]
    )


def test_the_json_is_as_its_schema_says(tmp_path: Path, shown: Shown) -> None:
    schema = json.loads(shown("--schema")[1])
    jsonschema.Draft202012Validator.check_schema(schema)
    for data in (report(), Report().written(4000)):
        in_variable(tmp_path, data)
        found = json.loads(shown("--json")[1])
        jsonschema.validate(found, schema)
        assert set(found) == set(schema["properties"])
    in_variable(tmp_path, report())
    found = json.loads(shown("--json")[1])
    assert (found["place"], found["verb"], found["remaining"]) == ("EFI variable", "reboot", 1)
    assert [(each["layer"], each["begin"], each["end"]) for each in found["layers"]] == [
        *(("ext4 /home", 0.3, 0.8), ("crypt <swap>", 0.65, 0.9)),
    ]
    assert found["lines"][-1]["problem"] is True


def test_the_picture_has_a_bar_for_each_layer(tmp_path: Path, shown: Shown) -> None:
    in_variable(tmp_path, report())
    root = ElementTree.fromstring(shown("--svg")[1])
    hints = [title.text or "" for box in root.iter(f"{SVG}rect") for title in box]
    assert "ext4 /home: 0.300 s to 0.800 s, busy" in hints
    assert "crypt <swap>: 0.650 s to 0.900 s" in hints
    assert "close: 0.800 s" in hints
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert "closed 1, remaining 1, keys left 0 in 1.20 s" in words


def test_a_long_name_does_not_leave_the_picture(tmp_path: Path, shown: Shown) -> None:
    in_variable(tmp_path, report(name="/" + 230 * "m"))
    root = ElementTree.fromstring(shown("--svg")[1])
    words = [text for text in root.iter(f"{SVG}text") if "ext4 /mm" in (text.text or "")]
    assert words
    for each in words:
        long, x = svg.width(each.text or "", 11), float(each.attrib["x"])
        left = x - long if each.attrib["text-anchor"] == "end" else x
        assert left >= 0 and left + long <= float(root.attrib["width"])


def test_a_picture_of_nothing_is_one_too(tmp_path: Path, shown: Shown) -> None:
    in_variable(tmp_path, Report().written(4000))
    status, out, _ = shown("--svg")
    assert status == 0
    assert ElementTree.fromstring(out).tag == f"{SVG}svg"
    assert "it was not reported what remained" in shown()[1]


def test_the_latest_is_shown(tmp_path: Path, shown: Shown) -> None:
    in_variable(tmp_path, report(WHEN, name="/variable"))
    assert "/variable" in shown()[1]
    put(tmp_path / "systemd-pstore" / "1764" / "dmesg-efi-1", log(report(WHEN + 1, name="/moved")))
    assert "/moved" in shown()[1]
    put(tmp_path / "pstore" / "dmesg-ramoops-0", log(report(WHEN + 2, name="/pstore")))
    assert "/pstore" in shown()[1]
    on_partition(tmp_path, report(WHEN + 3, name="/partition") + bytes(1000))
    status, out, err = shown()
    assert "remains ext4 /partition" in out and f"from: {tmp_path}/disk" in out
    assert (status, err) == (0, "")


def test_nothing_is_kept(tmp_path: Path, shown: Shown) -> None:
    on_partition(tmp_path, bytes(5000))
    put(tmp_path / "pstore" / "dmesg-ramoops-0", b"Panic#1 Part1\n<0>[ 1.0] a crash\n")
    status, out, err = shown()
    assert (status, out) == (1, "")
    assert err.startswith("finalstage: no report of a shutdown is kept on this machine; ")
    assert err.count("\n") == 1


def test_variables_that_are_not_mounted_are_no_place_without_a_report(
    tmp_path: Path, shown: Shown
) -> None:
    (tmp_path / "efivars").mkdir()
    status, _, err = shown()
    assert status == 1
    assert f"EFI variables: not mounted: mount -t efivarfs efivarfs {tmp_path}/efivars" in err


def test_a_file_whose_partition_is_not_mounted(
    tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_partition(tmp_path, report())
    put(tmp_path / "fstab", f"UUID=12-AB {tmp_path} vfat umask=0077 0 2\n".encode())
    monkeypatch.setattr(fstab, "FSTAB", tmp_path / "fstab")
    status, out, err = shown()
    assert (status, out) == (1, "")
    words = f"{tmp_path}/disk: {tmp_path} is not mounted: mount {tmp_path}; "
    assert words in err and err.count("\n") == 1


def test_a_file_that_is_not_there_yet_is_no_problem_on_vfat(
    tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_partition(tmp_path, b"")
    (tmp_path / "disk").unlink()
    assert f"{tmp_path}/disk: no such file or directory; " in shown()[2]
    monkeypatch.setattr(report_file, "is_on_vfat", lambda _, place: place == f"{tmp_path}/disk")
    assert shown()[2].startswith("finalstage: no report of a shutdown is kept on this machine; ")


def test_who_is_not_root_is_told(
    tmp_path: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_partition(tmp_path, report())

    def refuse(*_arguments: object, **_options: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places, "content", refuse)
    status, _, err = shown()
    assert status == 1
    assert err == (
        f"finalstage: cannot look for a report in {tmp_path}/disk: it takes root; use sudo\n"
    )
    in_variable(tmp_path, report())
    assert shown()[0] == 0  # which anybody may read
    assert shown(f"{tmp_path}/disk") == (
        *(1, ""),
        f"finalstage: cannot show a report from '{tmp_path}/disk': permission denied; use sudo\n",
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (report()[:-9], "it is cut off: "),
        (report()[:-9] + b"x" * 9, "it is damaged: its checksum is wrong"),
        (MAGIC + b"12345\nabc", "it is damaged: its second line is none"),
        (b"ext4, or something else", "it holds something else than a report"),
    ],
)
def test_a_report_that_cannot_be_read(
    data: bytes, words: str, tmp_path: Path, shown: Shown
) -> None:
    on_partition(tmp_path, data)
    status, out, err = shown()
    assert (status, out) == (1, "")
    assert f"no report can be read: {tmp_path}/disk: {words}" in err
    assert err.count("\n") == 1
    in_variable(tmp_path, report())
    status, out, err = shown()
    assert status == 0 and "from: EFI variable" in out
    assert words in err


def test_a_file_that_is_none(tmp_path: Path, shown: Shown) -> None:
    os.mkfifo(tmp_path / "pipe")
    put(tmp_path / "a\nb", b"")
    for name, words in (
        ("none", "no such file or directory"),
        ("pipe", "not a file or a block device"),
        (".", "is a directory"),
        ("a\nb", "there is no report in it"),
    ):
        status, out, err = shown(f"{tmp_path}/{name}")
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert words in err
    assert "not a file or a block device" in shown("/dev/null")[2]


def test_the_records_in_a_log(tmp_path: Path, shown: Shown) -> None:
    """As pstore has them, of two shutdowns; the last summary was too long for the log."""
    records = (
        {"at": 0.0, "event": "phase", "phase": "prepare"},
        {"at": 0.0, "event": "start", "verb": "poweroff", "when": WHEN, "words": ""},
        {"at": 0.2, "event": "phase", "phase": "close"},
        {"at": 0.4, "event": "close", "layer": "ext4 /", "id": "mount:9", "kind": "mount",
         "seconds": 0.1, "error": None},
    )  # fmt: skip
    first = [f"finalstage: {json.dumps(each)}" for each in records]
    last = [line.replace("poweroff", "halt") for line in first]
    words = "closed 300, remaining 2, keys left 1, 0.50 s"
    cut = json.dumps({"at": 0.5, "event": "summary", "words": words, "closed": ["x" * 900]})[:900]
    lines = [*first, "usb 1-1: new device", *last, f"finalstage: {cut}", "finalstage: {"]
    put(tmp_path / "log", "\n".join(lines).encode())
    status, out, _ = shown(f"{tmp_path}/log")
    assert status == 0
    assert out.startswith("halt on ")
    assert "closed 300, remaining 2, keys left 1 in 0.50 s" in out
    assert ["ext4", "/", "close", "0.100", "closed"] in [line.split() for line in out.splitlines()]


def test_what_a_terminal_would_obey_is_not_printed(tmp_path: Path, shown: Shown) -> None:
    in_variable(tmp_path, report(name="/\x1b]0;title\x07\nline\u202e"))
    for form in ((), ("--svg",), ("--json",)):
        out = shown(*form)[1]
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "remains ext4 /\\x1b]0;title\\x07\\nline\\u202e: busy" in shown()[1]


def with_checksum(body: bytes) -> bytes:
    return MAGIC + f"{len(body)} {checksum(body)}\n".encode() + body


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
BODY: dict[str, Any] = json.loads(report().splitlines()[2])


@settings(max_examples=150, deadline=None, database=None)
@given(st.dictionaries(st.sampled_from(sorted(BODY)), ANYTHING, max_size=3))
def test_a_foreign_report_is_refused_or_shown_and_nothing_else(wrong: dict[str, Any]) -> None:
    assert BODY["layers"] and BODY["said"]
    body = json.dumps({**BODY, **wrong}).encode()
    try:
        found = shutdown.read(with_checksum(body))
    except NoReportError:
        return
    ElementTree.fromstring(report_text.as_svg(found))
    json.loads(report_text.as_json(found, "somewhere"))
