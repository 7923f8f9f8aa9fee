"""Scan on recorded machines, on this one, and on what could be left of them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finalstage.drawing import draw
from finalstage.kernel.linux import LinuxKernel
from finalstage.plan import plan
from finalstage.scan import scan
from finalstage.stack import Layer, Stack
from finalstage.stage import OLD_ROOT
from finalstage.world import block_id
from tests.inside.record import record
from tests.unit import recorded
from tests.unit.recorded import FOLDER, Entry, Link, RecordedKernel, Recording

BLOCKS = "/sys/class/block"
ERRORS = (errno.EIO, errno.EPERM, errno.ENXIO, errno.ENODEV, errno.ENOMEM, errno.EINVAL)
Look = Callable[[Recording], Stack]


@cache
def machines() -> tuple[tuple[str, Recording, Look], ...]:
    """All recordings, each with how to scan it, and one of this machine."""
    found: list[tuple[str, Recording, Look]] = []
    for name in recorded.names():
        before, pivoted = recorded.load(name)
        found.append((name, before, recorded.look))
        found.append((f"{name}, pivoted", pivoted, recorded.look_pivoted))
    return (*found, ("this machine", recorded.heard(live()), recorded.look))


def live() -> list[tuple[object, ...]]:
    """Record this machine."""
    return list(record(LinuxKernel(), frozenset(), ""))


def below(stack: Stack) -> dict[str, set[str]]:
    """Return what each layer stands on, among those that are there, by the layers' ids."""
    return {layer.id: set(layer.below) & stack.by_id.keys() for layer in stack.layers}


# -- whole -----------------------------------------------------------------------------------------


def test_there_are_enough() -> None:
    assert len(recorded.names()) >= 8


@pytest.mark.parametrize("name", recorded.names())
def test_scan_sees_what_was_there(name: str) -> None:
    assert recorded.drawing(name) == (recorded.HERE / f"{name}.drawing").read_text()


@pytest.mark.parametrize("name", recorded.names())
def test_nothing_is_unreadable_and_the_plan_has_all(name: str) -> None:
    before, pivoted = recorded.load(name)
    for stack in (recorded.look(before), recorded.look_pivoted(pivoted)):
        assert stack.problems == ()
        steps = plan(stack).steps
        planned = [step.layer.id for step in steps]
        assert {layer.id for layer in stack.closing} <= set(planned)
        for step in steps:
            for lower in below(stack)[step.layer.id] & set(planned):
                assert planned.index(step.layer.id) < planned.index(lower)


@pytest.mark.parametrize("name", recorded.names())
def test_a_recording_is_read_as_it_was_written(name: str) -> None:
    text = (recorded.HERE / f"{name}.txt").read_text()
    assert recorded.write(*recorded.read(text)) == text


def test_this_machine() -> None:
    """As it is, without any recording between."""
    stack = scan(LinuxKernel())
    assert any(layer.kind == "mount" and layer.name == "/" for layer in stack.layers)
    assert plan(stack).steps
    assert draw(stack)


def test_this_machine_is_recorded_as_it_is() -> None:
    said = live()
    layers = [entry[1:] for entry in said if entry[0] == "layer"]
    stack = recorded.look(recorded.heard(said))
    assert [(layer.id, layer.title, layer.below) for layer in stack.layers] == layers
    assert layers


# -- damaged ---------------------------------------------------------------------------------------

ODD = (b"", b" ", b"\n", b"\t", b"-1", b"0", b"\xc2\xb2", b"\xff", b"\\777", b"9" * 5000, b"a b:c")
junk = st.one_of(
    st.sampled_from(ODD),
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.integers().map(lambda number: f"{number}\n".encode()),
)


def damaged(data: st.DataObject, entry: Entry, paths: list[str]) -> Entry:
    """Draw what an entry could become: cut, junk in one of its fields, all junk, an error, a link
    to anywhere, a folder."""
    kinds = ["junk", "error", "link", "folder"]
    if isinstance(entry, bytes) and entry:
        kinds += ["cut", "field", "field", "field"]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "cut" and isinstance(entry, bytes):
        start = data.draw(st.integers(0, len(entry)))
        return entry[start : data.draw(st.integers(start, len(entry)))]
    if kind == "field" and isinstance(entry, bytes):
        fields = entry.split(b" ")
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(junk)
        return b" ".join(fields)
    if kind == "link":
        return Link(data.draw(st.sampled_from([*paths, "..", ".", "", "/"])))
    if kind == "error":
        return data.draw(st.sampled_from(ERRORS))
    return data.draw(junk) if kind == "junk" else FOLDER


class Watched(RecordedKernel):
    """One that notes which entries are asked for."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording)
        self.asked: set[str] = set()

    def own_path(self, path: str) -> str:
        own = super().own_path(path)
        self.asked |= {path, own} & self.recording.entries.keys()
        return own


@cache
def asked_for(machine: int) -> list[str]:
    """Return the entries that scan asks for on a machine."""
    _, recording, _ = machines()[machine]
    kernel = Watched(recording)
    scan(kernel, old_root=OLD_ROOT)  # type: ignore[arg-type]
    return sorted(kernel.asked)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(st.data())
def test_scan_never_raises(data: st.DataObject) -> None:
    machine = data.draw(st.integers(0, len(machines()) - 1))
    _, recording, look = machines()[machine]
    paths = sorted(recording.entries)
    some = st.one_of(st.sampled_from(asked_for(machine)), st.sampled_from(paths))
    changed = data.draw(st.lists(some, max_size=5))
    changes = {path: damaged(data, recording.entries[path], paths) for path in changed}
    gone = data.draw(st.lists(some, max_size=2))
    answers = dict(recording.answers)
    for question in sorted(answers):
        if data.draw(st.integers(0, 3)) == 0:
            answers[question] = data.draw(st.sampled_from(ERRORS))
    stack = look(Recording(recording.but(changes, gone).entries, answers))
    assert plan(stack).steps or not stack.closing
    draw(stack)


def the_devices_of(stack: Stack) -> list[Layer]:
    """Return the layers that are block devices."""
    return [layer for layer in stack.layers if layer.id == block_id(layer.device)]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_a_device_that_cannot_be_read_costs_only_itself(data: st.DataObject) -> None:
    """It keeps its place, whatever its files and its table say, and all others are as before."""
    _, recording, look = data.draw(st.sampled_from(machines()))
    whole = look(recording)
    kernel = RecordedKernel(recording)
    folders = {name: kernel.own_path(f"{BLOCKS}/{name}") for name in kernel.listdir(BLOCKS)}
    name = data.draw(st.sampled_from(sorted(folders)))
    inner = tuple(f"{each}/" for each in folders.values() if each.startswith(f"{folders[name]}/"))
    files = [
        path
        for path, entry in sorted(recording.entries.items())
        if path.startswith(f"{folders[name]}/") and not path.startswith(inner)
        if isinstance(entry, bytes) and path != f"{folders[name]}/dev"
    ]
    # A size of 0 says that nothing is there.
    content = st.one_of(junk.filter(lambda text: text.strip() != b"0"), st.sampled_from(ERRORS))
    some = st.lists(st.sampled_from(files), min_size=1, max_size=4)
    bad: dict[str, Entry] = {path: data.draw(content) for path in data.draw(some)}
    device = kernel.read(f"{BLOCKS}/{name}/dev").decode().strip()
    answers = dict(recording.answers)
    for question in (("dm_status", device), ("dm_info", device)):
        if question in answers and data.draw(st.booleans()):
            answers[question] = data.draw(st.sampled_from(ERRORS))
    stack = look(Recording({**recording.entries, **bad}, answers))
    for layer in whole.layers:
        if layer.device == device and layer in the_devices_of(whole):
            slaves = {lower for lower in layer.below if lower.startswith("block:")}
            assert slaves <= below(stack)[layer.id]
        else:
            assert stack.get(layer.id) == layer
