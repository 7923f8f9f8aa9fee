"""What `finalstage check` says of who calls it: init, what was installed, systemd."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from finalstage.cli.check import callers
from finalstage.cli.check import systemd as check_systemd
from finalstage.cli.check.readiness import OK, PROBLEM, UNKNOWN, WARNING, Finding, Machine
from finalstage.cli.config import Configuration
from finalstage.cli.errors import RefusalError
from finalstage.cli.install import changes, installation, overlay
from finalstage.cli.install.changes import Change, File, Insert, Link
from finalstage.cli.install.installation import PROGRAM, Record
from finalstage.cli.staged import stand_in
from finalstage.cli.staged.staging import SOURCE
from finalstage.mountinfo import Entry as Mount
from tests.unit.files_kernel import machine

SCRIPT = File("etc/init.d/finalstage", "#!/bin/sh\n", 0o755)
LINK = Link("etc/rc0.d/K01finalstage-hand-over", "../init.d/finalstage-hand-over")
LINES = Insert("etc/inittab", ("::restart:/usr/lib/finalstage/hand-over",), create="# ours")
OURS = Mount(9, 1, "0:9", "/", "/run/initramfs", "rw", "tmpfs", SOURCE, "rw")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a machine with runit, not as PID 1, on which nothing is staged."""
    monkeypatch.setattr(callers, "HOST", tmp_path)
    monkeypatch.setattr(callers, "mount_at", lambda place: None)
    monkeypatch.setattr(overlay, "pid_1", lambda: "init")
    program = tmp_path / "this"
    program.write_text("program")
    monkeypatch.setattr(installation, "this_program", lambda: program)
    return tmp_path


def installed(root: Path, name: str, *made: Change) -> None:
    """Have something installed, all of it as it should be."""
    for change in made:
        change.make(root)
    Record(name, made, (), (), ()).write(root)
    (root / PROGRAM).parent.mkdir(parents=True, exist_ok=True)
    (root / PROGRAM).write_text("program")


def look(init: str = "runit", as_root: bool = True) -> list[Finding]:
    """What is found."""
    return list(callers.look(machine(init=init, as_root=as_root)))


def of(name: str, found: list[Finding]) -> list[Finding]:
    """The findings of one name; what is wrong has a remedy."""
    assert all(each.remedy for each in found if each.verdict != OK)
    return [each for each in found if each.name == name]


def test_all_is_well(root: Path) -> None:
    installed(root, "runit", SCRIPT, LINES)
    assert {each.verdict for each in look()} == {OK}
    (init, unchanged, program) = look()
    assert "stage 3, before it unmounts executes /run/initramfs/shutdown as PID 1" in init.found
    assert unchanged.found == "for runit, unchanged: 2 files, links and lines"
    assert program.found == f"/{PROGRAM} is this one"


def test_an_init_that_stays_pid_1(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "pid_1", lambda: "runit")
    assert of("init", look())[0].found.endswith("as a child")


@pytest.mark.parametrize(("as_root", "verdict"), [(True, PROBLEM), (False, UNKNOWN)])
def test_an_unknown_init(root: Path, as_root: bool, verdict: str) -> None:
    (finding,) = of("init", look("", as_root))
    assert finding.verdict == verdict


def test_systemd_is_known_to_who_is_not_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise RefusalError("cannot see which init this is")

    monkeypatch.setattr(overlay, "detect", refuse)
    monkeypatch.setattr(stand_in, "UNITS", tmp_path / "none")
    assert callers.init_that_runs() == ""
    monkeypatch.setattr(stand_in, "UNITS", tmp_path)
    assert callers.init_that_runs() == "systemd"


def test_nothing_is_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "look_at_systemd", lambda machine, is_installed: ())
    for init in ("runit", "systemd"):
        (finding,) = of("installed", look(init))
        assert (finding.verdict, finding.remedy) == (PROBLEM, "finalstage install")
    monkeypatch.setattr(callers, "mount_at", lambda place: OURS)
    assert of("installed", look())[0].verdict == PROBLEM
    assert of("installed", look("systemd"))[0].verdict == WARNING  # it looks there by itself


def test_only_an_image_builder_is_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "look_at_systemd", lambda machine, is_installed: ())
    installed(root, "dracut", SCRIPT)
    assert of("installed", look("systemd"))[0].verdict == OK
    assert of("installed", look())[0].found == "not installed: nobody calls it"


def test_another_init_than_the_one_that_runs(root: Path) -> None:
    installed(root, "busybox", SCRIPT)
    first, second = of("installed", look())
    assert first.verdict == PROBLEM and "installed for busybox" in first.found
    assert second.verdict == OK


def test_what_is_gone_or_changed_is_named(root: Path) -> None:
    installed(root, "runit", SCRIPT, LINK, LINES)
    (root / SCRIPT.path).write_text("theirs")
    (root / LINK.path).unlink()
    (root / LINES.path).write_text("theirs\n")
    changed, gone, lines = of("installed", look())
    assert changed.found == f"/{SCRIPT.path} is not as it was installed"
    assert changed.remedy == f"mv /{SCRIPT.path} /root && finalstage install --init runit"
    assert gone.found == f"/{LINK.path} is gone"
    assert lines.remedy == "finalstage install --init runit"
    assert {each.verdict for each in (changed, gone, lines)} == {PROBLEM}


def test_a_service_that_is_not_enabled(root: Path) -> None:
    installed(root, "runit", SCRIPT)
    (root / "etc/rc0.d").mkdir()
    (finding,) = of("installed", look())
    assert finding.verdict == PROBLEM and "there is no /etc/rc0.d/[KS]*final" in finding.found
    assert "update-rc.d finalstage-hand-over defaults" in finding.remedy
    LINK.make(root)
    assert of("installed", look())[0].verdict == OK


def test_another_program_than_the_installed_one(root: Path) -> None:
    installed(root, "runit", SCRIPT)
    (root / PROGRAM).write_text("another")
    assert of("program", look())[0].verdict == WARNING


def test_a_record_that_makes_no_sense(root: Path) -> None:
    installed(root, "runit", SCRIPT)
    installation.record_place(root, "runit").write_text("{")
    (finding,) = of("installed", look())
    assert finding.verdict == UNKNOWN and "which says what was installed" in finding.found


def test_a_script_of_ones_own_is_no_unknown_init(root: Path) -> None:
    installed(root, "none", SCRIPT)
    assert {each.verdict for each in look("")} == {OK}
    assert "a script of your own" in of("init", look(""))[0].found


@pytest.mark.parametrize("target", ["/etc/init.d/finalstage-hand-over", "./../init.d/../init.d/x"])
def test_a_link_is_made_if_it_leads_to_the_same_place(root: Path, target: str) -> None:
    (root / "etc/rc0.d").mkdir(parents=True)
    (root / LINK.path).symlink_to(target)
    assert LINK.is_made(root) == (not target.endswith("x"))
    assert isinstance(changes.from_note(LINK.noted()), Link)


def test_each_init_says_who_calls_it() -> None:
    for name in overlay.names():
        read = overlay.read(name)
        assert bool(read.called_by) == (name not in ("dracut", "initramfs-tools", "mkinitcpio"))


# -- systemd ---------------------------------------------------------------------------------------

WELL = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}
MANAGER = {"DefaultTimeoutStopUSec": "1min 30s", "LogLevel": "info", "LogTarget": "journal"}


@pytest.mark.parametrize(
    ("said", "verdict", "words", "remedy"),
    [
        (WELL, OK, "enabled and active", ""),
        ({}, UNKNOWN, "says nothing", "systemctl status"),
        ({"LoadState": "masked"}, PROBLEM, "is masked", "systemctl unmask"),
        ({"LoadState": "not-found"}, PROBLEM, "does not have", "systemctl daemon-reload"),
        ({**WELL, "UnitFileState": "disabled"}, PROBLEM, "is disabled", "systemctl enable"),
        ({**WELL, "UnitFileState": ""}, PROBLEM, "is not enabled", "systemctl enable"),
        ({**WELL, "ActiveState": "failed"}, PROBLEM, "is failed", "systemctl restart"),
        ({**WELL, "ActiveState": "inactive"}, WARNING, "is inactive", "systemctl restart"),
        ({**WELL, "NeedDaemonReload": "yes"}, WARNING, "has changed", "systemctl daemon-reload"),
    ],
)
def test_the_unit(
    said: dict[str, str], verdict: str, words: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_systemd, "show", lambda unit, names: said if unit else {})
    (finding,) = (each for each in check_systemd.look(machine(), True) if each.name == "unit")
    assert finding.verdict == verdict and words in finding.found
    assert finding.remedy.startswith(remedy) and bool(remedy) == bool(finding.remedy)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """systemd-shutdown, as it is there; a launcher is staged, and nothing stands in."""
    program = tmp_path / "systemd-shutdown"
    program.write_text("")
    (tmp_path / "shutdown").write_text("")
    monkeypatch.setattr(stand_in, "PROGRAMS", (program, tmp_path / "none"))
    monkeypatch.setattr(stand_in, "standing", lambda: None)
    monkeypatch.setattr(stand_in, "CONTAINER", tmp_path / "container")
    monkeypatch.setattr(check_systemd, "USUAL", tmp_path)
    monkeypatch.setattr(check_systemd, "show", lambda unit, names: MANAGER)
    return program


def caller(wanted: bool = False) -> Finding:
    """What is said of who executes it."""
    of = machine(stand_in=wanted)
    if wanted:
        of = sets(of, "systemd.stand-in")
    (finding,) = check_systemd.look(of, False)
    return finding


def sets(of: Machine, name: str) -> Machine:
    """A machine on which the configuration says something of an option."""
    before = of.setup.configuration
    after = Configuration(before.place, {name: True}, (), before.options, {})
    return dataclasses.replace(of, setup=dataclasses.replace(of.setup, configuration=after))


def test_systemd_shutdown_hands_over(systemd: Path) -> None:
    assert caller().verdict == OK
    assert caller().found == (
        f"systemd executes {systemd}, which executes {systemd.parent}/shutdown, with the verb and"
        " --timeout=1min 30s --log-level=info --log-target=journal"
    )


def test_there_is_no_systemd_shutdown(systemd: Path) -> None:
    systemd.unlink()
    assert caller().verdict == PROBLEM and "there is no" in caller().found


def test_it_will_stand_in(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert caller(wanted=True).verdict == OK
    assert "from when the machine goes down" in caller(wanted=True).found
    (systemd.parent / "container").write_text("")
    finding = caller(wanted=True)
    assert finding.verdict == PROBLEM and "a container has nothing to close" in finding.found
    assert "stand-in = false" in finding.remedy
    monkeypatch.undo()


def test_it_stands_in(systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = systemd.parent / "shutdown"
    monkeypatch.setattr(stand_in, "standing", lambda: launcher)
    assert caller().verdict == OK and "in place of" in caller().found
    monkeypatch.setattr(stand_in, "standing", lambda: systemd)
    assert caller().verdict == PROBLEM and caller().remedy == "finalstage stage"
    launcher.unlink()
    assert caller().verdict == PROBLEM
