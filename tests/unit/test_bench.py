"""What the benchmark makes of what it has measured: figures, tables and pictures."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from finalstage.cli import svg
from finalstage.cli.report.timeline import LEFT, PLOT
from tests.bench import calls, figures, plot, report, run, start, tables, timeline
from tests.bench.contestants import CONTESTANTS, DRACUT, FINALSTAGE_DIRECT, ORACLE
from tests.bench.results import Going, Results, Timeline
from tests.vm.cache import PROJECT

SVG = "{http://www.w3.org/2000/svg}"


def going(seconds: float, **phases: float) -> Going:
    return {"seconds": seconds, "first_line": 0.2, "phases": phases, "peak_kib": 10_000}


def record(at: float, event: str, **facts: Any) -> dict[str, Any]:
    return {"at": at, "event": event, **facts}


RECORDS = [
    record(0.0, "phase", phase="prepare"),
    record(0.2, "phase", phase="close"),
    record(0.5, "close", layer="ext4 /a", kind="mount", seconds=0.25, error=None),
    record(0.6, "close", layer="ext4 /b", kind="mount", seconds=0.39, error=None),
    record(0.7, "close", layer="linear <b>", kind="dm", seconds=0.05, error=None),
    record(0.8, "phase", phase="down"),
]
TIMELINE: Timeline = {"offset": 0.3, "seconds": 1.5, "records": RECORDS}
RESULTS: Results = {
    "goings": {
        "main": {
            FINALSTAGE_DIRECT.name: [going(1, close=0.3), going(5, close=0.4), going(2, close=0.8)],
            DRACUT.name: [going(4)],
            ORACLE.name: [going(0.5), going(0.5), going(0.5)],
        }
    },
    "timelines": {"100 mounts": TIMELINE},
    "starts": {"cold": {"finalstage": [0.3, 0.5, 0.4], "hello": [0.1, 0.2, 0.3]}},
    "sizes": {"finalstage's tree": 9_500_000},
    "planning": {
        "storage server": [
            {"layers": 1000, "scan": 0.01, "plan": 0.01, "mebibytes": 1.0},
            {"layers": 100_000, "scan": 2.5, "plan": 2.5, "mebibytes": 90.0},
        ]
    },
    "calls": {"main": {FINALSTAGE_DIRECT.name: {"total": 1200, "phases": {"close": 1200}}}},
    "imports": [{"module": f"m{number}", "microseconds": 1000 * number} for number in range(20)],
}


def goal(words: str) -> figures.Goal:
    return next(each for each in figures.goals(RESULTS) if each.words.startswith(words))


def test_a_median_counts_and_not_a_mean() -> None:
    assert figures.seconds(RESULTS, "main", FINALSTAGE_DIRECT.name) == 2
    assert figures.phases(RESULTS, "main", FINALSTAGE_DIRECT.name) == {"close": 0.4}
    assert figures.seconds(RESULTS, "main", "nobody") is None


def test_ratios_are_beside_their_goals() -> None:
    ratio = goal(f"main: {FINALSTAGE_DIRECT.name} / ")
    assert (ratio.value, ratio.most, ratio.reached) == (0.5, 0.75, True)
    first = goal("exec to first line, cold")
    assert (first.value, first.reached) == (2.0, False)


def test_planning_is_bound_in_time_and_in_growth() -> None:
    assert goal("scan and plan, storage server").reached is False  # 5 s
    grown = goal("time a layer, storage server")
    assert grown.value == pytest.approx(2.5)
    assert not grown.reached


def test_sizes_are_in_megabytes() -> None:
    assert goal("finalstage's tree").value == 9.5


def test_what_was_not_measured_has_no_goal() -> None:
    assert figures.goals({}) == []
    silent: Results = {"goings": {"400 mounts": {FINALSTAGE_DIRECT.name: [going(1)]}}}
    assert [each.most for each in figures.goals(silent)] == [20]
    silent["goings"]["400 mounts"][FINALSTAGE_DIRECT.name][0]["peak_kib"] = 0
    assert figures.goals(silent) == []


def test_spread_is_that_of_the_worst_cell() -> None:
    assert figures.spread(RESULTS) == 1.5


def test_phases_reach_from_exec_to_power_off() -> None:
    spans = figures.spans(RECORDS, offset=0.3, seconds=1.5)
    assert spans == pytest.approx({"entry": 0.3, "prepare": 0.2, "close": 0.6, "down": 0.4})
    assert sum(spans.values()) == pytest.approx(1.5)
    assert figures.spans([], 0.3, 1.5) == {}


def test_the_clock_is_placed_by_the_line_that_names_its_time() -> None:
    said = "\r\nfinalstage [  0.125] finalstage 1: poweroff\r\nfinalstage [  0.5] closed\r\n"
    assert run.Measured(2.0, 1.0, said).offset == 0.875
    assert run.Measured(2.0, 1.0, "systemd-shutdown[1]: Syncing\n").offset == 0.0


def test_a_cell_that_was_measured_once_has_a_star() -> None:
    (row,) = tables.going_down(RESULTS)
    assert row[FINALSTAGE_DIRECT.name] == "2.00"
    assert row[DRACUT.name] == "4.00 *"


def test_the_gap_is_what_the_oracle_does_not_need() -> None:
    rows = {row["phase"]: row["main"] for row in tables.gaps(RESULTS)}
    assert rows == {"close": "0.400", "**all**": "2.000", "**oracle**": "0.500", "**gap**": "1.500"}


def test_few_imports_are_named_and_none_is_left_out() -> None:
    rows = tables.imports(RESULTS, most=3)
    assert [row["module"] for row in rows] == ["m19", "m18", "m17", "17 others", "all 20"]
    assert rows[-1]["ms"] == "190.0"


def test_imports_are_read() -> None:
    text = "import time: self [us] | cumulative | imported package\n"
    text += "import time:       120 |        320 |   encodings.utf_8\n"
    assert start.read(text) == [start.Import("encodings.utf_8", 120, 1)]


def test_pictures_are_where_the_readme_says() -> None:
    text = report.markdown(RESULTS)
    for name in re.findall(r"\]\((.*?)\)", text):
        assert (PROJECT / name).parent == report.PICTURES
    assert text.index(report.BARS) < text.index("<details>") < text.index("importtime")


def test_every_section_is_shown_to_both() -> None:
    for text in (report.plain(RESULTS), report.markdown(RESULTS)):
        assert "Where the time goes" in text
        assert "1,200" in text
        assert "not reached" in text


def boxes(text: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(text).iter(f"{SVG}rect"))


def hints(text: str) -> list[str]:
    return [title.text or "" for box in boxes(text) for title in box.iter(f"{SVG}title")]


def test_a_timeline_has_a_bar_for_each_layer() -> None:
    text = timeline.draw(TIMELINE, "a & b")
    assert [bar.name for bar in timeline.bars(TIMELINE)] == ["ext4 /b", "ext4 /a", "linear <b>"]
    for name in ("ext4 /a", "ext4 /b", "linear <b>"):
        assert len([hint for hint in hints(text) if hint.startswith(f"{name}: ")]) == 1
    assert len([hint for hint in hints(text) if hint.startswith("close: 0.600")]) == 1


def test_bars_are_where_the_time_says() -> None:
    bar = timeline.bars(TIMELINE)[1]
    assert bar.begin == pytest.approx(0.55)
    assert bar.end == pytest.approx(0.8)
    text = timeline.draw(TIMELINE, "")
    (box,) = (each for each in boxes(text) if "ext4 /a" in ElementTree.tostring(each).decode())
    scale = PLOT / 1.5
    assert float(box.attrib["x"]) == pytest.approx(LEFT + 0.55 * scale, abs=0.1)
    assert float(box.attrib["width"]) == pytest.approx(0.25 * scale, abs=0.1)


def test_the_plot_has_a_bar_for_each_contestant() -> None:
    found = hints(plot.draw(RESULTS))
    assert sorted(found) == sorted(
        (f"{FINALSTAGE_DIRECT.name}: 2.00 s", f"{DRACUT.name}: 4.00 s", f"{ORACLE.name}: 0.50 s")
    )


@pytest.mark.parametrize(("most", "step"), [(1.5, 0.5), (0.9, 0.2), (31, 10), (100, 20), (5, 1)])
def test_marks_are_round(most: float, step: float) -> None:
    assert svg.step(most) == pytest.approx(step)


def test_names_of_contestants_differ() -> None:
    assert len({each.name for each in CONTESTANTS}) == len(CONTESTANTS)


CONTROL = [b"bench: control", *[b"sys_enter: NR 0 "] * 2100, b"bench: begin"]
PREPARE = b'finalstage: {"at": 0.0, "event": "phase", "phase": "prepare"}'


def test_calls_are_counted_by_phase() -> None:
    counts = calls.tally([*CONTROL, *[b"sys_enter: NR 1 "] * 3, PREPARE, b"sys_enter: NR 2 "])
    assert counts == calls.Counts(4, {"entry": 3, "prepare": 1})


def test_calls_that_were_not_seen_are_noticed() -> None:
    with pytest.raises(RuntimeError, match="0 calls were seen"):
        calls.tally([b"bench: control", b"bench: begin", b"sys_enter: NR 1 "])


def test_the_log_is_read_from_memory() -> None:
    """As it lies there: each line behind its number, copies of others behind something else."""
    whole = b'finalstage: {"at": 0.1, "event": "a"}'
    cut = b'finalstage: {"at": 0.2, "event": "summary", "peak_kib": 123, "closed": ["x'
    memory = b"\x01\x00\xff?" + whole + b"A\x00\xff\xff\xff?" + cut + b"\xff\0"
    memory += b"6,1,2,-;" + whole + b"<7>" + whole
    found = tuple(re.findall(run.RECORD, memory))
    assert found == (whole, cut)
    measured = run.Measured(1.0, 0.1, "", found)
    assert [each["event"] for each in measured.records] == ["a"]
    assert measured.peak_kib == 123


def test_records_come_in_order_and_once() -> None:
    late = b'finalstage: {"at": 0.2, "event": "b"}'
    early = b'finalstage: {"at": 0.1, "event": "a"}'
    torn = b'finalstage: {"at": 0.1, "ev}'
    assert [each["event"] for each in run.records((late, early, torn, late))] == ["a", "b"]
