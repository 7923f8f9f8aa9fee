"""`finalstage plan` on recorded machines: each form of it is whole, true and well formed, and
nothing is changed."""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from typing import Any, cast

import jsonschema
import pytest
from rich.console import Console

from finalstage import cli
from finalstage.cli import inside, terminal
from finalstage.cli.errors import NOT_UNDERSTOOD, TargetError
from finalstage.cli.plan import document as plan_json
from finalstage.cli.plan import dot, picture, verb
from finalstage.cli.plan import text as plan_text
from finalstage.cli.plan.looking import Looking
from finalstage.cli.plan.outlook import Outlook, look
from finalstage.cli.problems import Problem
from finalstage.kernel import Kernel
from finalstage.stack import Layer
from tests.sim.kernel import SimKernel
from tests.sim.stacks import main_stack
from tests.unit import recorded
from tests.unit.recorded import RecordedKernel
from tests.vm.cache import PROJECT

SVG = "{http://www.w3.org/2000/svg}"
machines = pytest.mark.parametrize("name", recorded.names())


@cache
def outlook(name: str, *words: str) -> Outlook:
    """Look at a recorded machine as its users have left it."""
    return look(RecordedKernel(recorded.load(name)[0]), words, 32)  # type: ignore[arg-type]


def shown(of: Outlook) -> list[Layer]:
    """The layers that are drawn."""
    return list(of.visible(False).layers)


def plain() -> Console:
    """A console that is no terminal."""
    return terminal.console(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))


def text(of: Outlook, out: Console | None = None, everything: bool = False) -> str:
    return "\n".join(plan_text.draw(of, out or plain(), everything))


# -- text ------------------------------------------------------------------------------------------


@machines
def test_the_tree_has_each_layer_with_its_step(name: str) -> None:
    of = outlook(name)
    tree = text(of).partition("\n\n")[0].splitlines()[1:]
    full = [line.lstrip("├─└│ ") for line in tree if " (see " not in line]
    for layer in shown(of):
        lines = [line for line in full if re.match(rf"{re.escape(layer.title)}(  |$)", line)]
        same = [each for each in shown(of) if each.title == layer.title]
        assert len(lines) == len(same)
        steps = {str(of.step_of.get(each.id, "")) for each in same}
        assert all(not step or any(step in line.split() for line in lines) for step in steps)


@machines
def test_the_steps_have_each_layer_once_and_in_order(name: str) -> None:
    of = outlook(name)
    said = text(of).split("\n\n")[1].splitlines()[1:]
    drawn = {layer.id for layer in shown(of)}
    wanted = [layer.title for group in of.steps for layer in group if layer.id in drawn]
    found = [
        title
        for line in said
        for title in [re.split(r"  +", line[6:].strip())[1]]
        if not title.endswith(plan_text.API)
    ]
    assert found == wanted


def test_the_kernels_own_file_systems_are_shown_if_asked_for() -> None:
    of = outlook("busy")
    assert "proc /proc" not in text(of)
    assert "proc /proc" in text(of, everything=True)


def test_lines_of_a_terminal_end_at_its_edge_and_have_its_colours() -> None:
    file = io.StringIO()
    out = Console(file=file, force_terminal=True, color_system="standard", width=50)
    said = text(outlook("busy"), out).partition("\n\n")[0]
    assert "\x1b[1;32m" in said
    bare = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert max(map(len, bare.splitlines())) == 50
    assert "…" in bare
    whole = re.sub(r"\x1b\[[0-9;]*m", "", text(outlook("swaps"), out))
    assert max(map(len, whole.splitlines())) == 50


def test_without_colours_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Console(file=io.StringIO(), force_terminal=True, width=200)
    assert "\x1b[3" not in text(outlook("busy"), out)
    assert "\x1b" not in text(outlook("busy"))


def test_a_line_is_as_long_as_it_needs_to_be_in_a_file() -> None:
    assert max(map(len, text(outlook("swaps")).splitlines())) > 120


# -- JSON ------------------------------------------------------------------------------------------


def document(of: Outlook) -> Any:
    return json.loads(plan_json.write(of, ["something"]))


@machines
def test_the_json_is_as_its_schema_says(name: str) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(inside.schema(plan_json.SCHEMA)))
    validator.check_schema(validator.schema)
    assert list(validator.iter_errors(document(outlook(name)))) == []


def test_a_document_that_is_not_as_the_schema_says_is_seen() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(inside.schema(plan_json.SCHEMA)))
    for key in ("version", "layers", "steps"):
        wrong = document(outlook("busy"))
        wrong[key] = None
        assert list(validator.iter_errors(wrong)), key
    wrong = document(outlook("busy"))
    wrong["layers"][0]["fate"]["what"] = "explode"
    assert list(validator.iter_errors(wrong))


@machines
def test_the_json_agrees_with_itself(name: str) -> None:
    found = document(outlook(name))
    layers = {layer["id"]: layer for layer in found["layers"]}
    steps = {id: number for number, ids in enumerate(found["steps"], 1) for id in ids}
    assert {id: layer["step"] for id, layer in layers.items() if layer["step"]} == steps
    for layer in layers.values():
        for lower in layer["below"]:
            above, under = layer["step"], layers[lower]["step"]
            assert not (above and under) or above < under or found["circles"]


# -- pictures --------------------------------------------------------------------------------------


@machines
def test_the_graph_has_each_layer_and_each_edge(name: str) -> None:
    of = outlook(name)
    lines = dot.draw(of).splitlines()
    there = {layer.id for layer in shown(of)}
    edges = sum(len(there.intersection(layer.below)) for layer in shown(of))
    assert sum(" -> " in line for line in lines) == edges
    assert sum("label=" in line for line in lines) == len(there)
    string = r'"(?:[^"\\]|\\.)*"'
    for line in lines[1:-1]:
        assert re.sub(string, "", line).count('"') == 0


@machines
def test_the_picture_is_well_formed_and_nothing_covers_anything(name: str) -> None:
    of = outlook(name)
    root = ElementTree.fromstring(picture.draw(of))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    boxes = {
        each.find(f"{SVG}title"): tuple(float(each.get(key, 0)) for key in ("x", "y"))
        for each in root.iter(f"{SVG}rect")
        if each.find(f"{SVG}title") is not None
    }
    titles = [(title.text or "").partition("\n")[0] for title in boxes if title is not None]
    assert sorted(titles) == sorted(layer.title for layer in shown(of))
    places = list(boxes.values())
    for number, (x, y) in enumerate(places):
        assert 0 <= x <= width - picture.WIDTH and 0 <= y <= height - picture.HEIGHT
        for other_x, other_y in places[:number]:
            assert abs(x - other_x) >= picture.WIDTH or abs(y - other_y) >= picture.HEIGHT
    numbers = [each.text for each in root.iter(f"{SVG}text") if (each.text or "").isdigit()]
    in_steps = sum(layer.id in of.step_of for layer in shown(of))
    assert len(numbers) == in_steps + 1  # and one in the legend


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    drawn = picture.draw(outlook("busy"))
    assert not re.search(r"href|url\(|@import|<script|<image", drawn)
    assert drawn.count("http") == 1  # the name of the language itself


# -- parts of a machine ----------------------------------------------------------------------------


def test_of_a_target_there_is_what_stands_on_it_and_what_it_stands_on() -> None:
    of = outlook("busy", "vg/srv")
    assert {layer.name for group in of.steps for layer in group} == {
        "vg-srv", "/srv", "/srv/data",
    }  # fmt: skip
    names = {of.stack.by_id[id].name for id in of.context}
    assert {"crypt", "md0", "vdb", "vdc", "/", "vg-root"} <= names
    assert "vg-swap" not in names


@pytest.mark.parametrize("words", [("nowhere",), ("",), ("vg/srv", "vg/srv"), ("a\nb",)])
def test_what_is_no_target_is_said(words: tuple[str, ...]) -> None:
    with pytest.raises(TargetError) as caught:
        outlook("busy", *words)
    assert "\n" not in str(caught.value)


def test_odd_names_come_whole_and_harmless() -> None:
    of = outlook("swaps")
    layer = next(each for each in of.stack.layers if "\n" in each.name)
    assert layer.name in {each["name"] for each in document(of)["layers"]}
    for drawn in (text(of), dot.draw(of), picture.draw(of)):
        assert r"\n" in drawn
        assert drawn.isascii() or all(line.isprintable() for line in drawn.splitlines())


# -- nothing is changed ----------------------------------------------------------------------------

LOOKS = frozenset("pid read readlink listdir stat dm_status dm_info now sleep start wait".split())


class Still:
    """A kernel that notes whatever is asked of it beyond looking."""

    def __init__(self, kernel: object) -> None:
        self.kernel = kernel
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name not in LOOKS:
            self.asked.add(name)
            raise AssertionError(f"{name} changes something")
        return getattr(self.kernel, name)


def test_the_kernel_is_only_asked() -> None:
    kernel = Still(SimKernel(main_stack()))
    of = look(cast(Kernel, kernel), (), 32)
    assert kernel.asked == set()
    assert any(layer.name == "cryptroot" for layer in of.stack.layers)


def test_the_one_that_is_asked_can_do_nothing_else() -> None:
    offered = {name for name in dir(Looking) if not name.startswith("_")} | vars(Looking()).keys()
    changing = {name for name in dir(Kernel) if not name.startswith("_")} - LOOKS
    assert "umount" in changing
    assert offered & changing == set()


HOOKED = """
import os, sys
def hook(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (
        os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    ):
        print("CHANGED", event, arguments[0], file=sys.stderr)
    if event.split(".")[0] in ("os", "subprocess", "shutil", "socket") and event not in (
        "os.listdir", "os.scandir", "os.putenv", "os.unsetenv"
    ):
        print("CHANGED", event, arguments, file=sys.stderr)
sys.dont_write_bytecode = True
sys.addaudithook(hook)
if sys.argv[1] == "control":
    os.close(os.open(os.devnull, os.O_WRONLY))
    sys.exit()
from finalstage.cli import main
sys.exit(main(sys.argv[1:]))
"""


def hooked(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the tool on this machine with a witness of every file that is opened."""
    command = (sys.executable, "-c", HOOKED, *words)
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)


def test_nothing_is_opened_for_writing_on_this_machine() -> None:
    ran = hooked("plan", "--json")
    assert "CHANGED" not in ran.stderr
    assert any(layer["name"] == "/" for layer in json.loads(ran.stdout)["layers"])
    assert "CHANGED open /dev/null" in hooked("control").stderr


# -- the verb --------------------------------------------------------------------------------------


def parsed(*words: str) -> argparse.Namespace:
    return cli.parser().parse_args(("plan", *words))


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "finalstage plan --json"


@pytest.mark.parametrize("form", ["--json", "--dot", "--svg", ""])
def test_what_could_not_be_seen_is_said_beside_what_could(form: str) -> None:
    unseen = [Problem("not seen", 0, "half of it", "root sees more")]
    *said, last = verb.show(outlook("busy"), unseen, parsed(*filter(None, (form,))))
    assert last is unseen[0]
    assert "half of it" not in "\n".join(map(str, said)) or form == "--json"


def test_a_string_of_a_graph_ends_where_it_should() -> None:
    assert dot.quoted('a"b\\') == r'"a\"b\\"'
    assert dot.quoted("a\nb") == r'"a\\nb"'


def test_two_forms_at_once_are_not_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--json", "--svg"]) == NOT_UNDERSTOOD
    assert "not allowed with" in capsys.readouterr().err
