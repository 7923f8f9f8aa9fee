"""`finalstage install` and `uninstall`, in a root of their own: what they change, and what not."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from finalstage import cli
from finalstage.cli import completion_verb
from finalstage.cli.errors import RefusalError
from finalstage.cli.install import changes, installation, overlay

INSTALL_TOML = """
init = ["someinit"]
stage = false

[links]
"etc/rc0.d/K99finalstage" = "../init.d/finalstage"

[[insert]]
path = "etc/inittab"
lines = ["::restart:/usr/lib/finalstage/hand-over", "::shutdown:/bin/true"]
before = "# the end"

[[insert]]
path = "etc/rc.local"
lines = ["finalstage stage"]
create = "#!/bin/sh"
mode = 0o755

[[divert]]
path = "sbin/poweroff"
if-link-to = "busybox"

[commands]
install = [["false"]]
"""
SCRIPT = "#!/bin/sh\n"
WRAPPER = "#!/bin/sh\necho ours\n"
INITTAB = "::sysinit:/bin/true\n# the end\n::askfirst:/bin/sh"
BLOCK = "# finalstage: begin\n::restart:/usr/lib/finalstage/hand-over\n::shutdown:/bin/true\n"


@pytest.fixture(autouse=True)
def overlays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one overlay, `some`, and a program to install."""
    folder = tmp_path / "overlays"
    root = folder / "some" / "root"
    for name, text in (("etc/init.d/finalstage", SCRIPT), ("sbin/poweroff", WRAPPER)):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text)
        (root / name).chmod(0o700)
    (root / "etc/plain").write_text("plain")
    (folder / "some" / "install.toml").write_text(INSTALL_TOML)
    (tmp_path / "program").write_text("program")
    monkeypatch.setattr(overlay, "folder", lambda: folder)
    monkeypatch.setattr(installation, "this_program", lambda: tmp_path / "program")
    (tmp_path / "man" / "man8").mkdir(parents=True)
    (tmp_path / "man" / "man8" / "finalstage.8").write_text(".TH")
    monkeypatch.setattr(installation, "manual", lambda: tmp_path / "man")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a small machine."""
    found = tmp_path / "root"
    for name in ("bin", "sbin", "etc"):
        (found / name).mkdir(parents=True)
    (found / "sbin/poweroff").symlink_to("../bin/busybox")
    (found / "etc/inittab").write_text(INITTAB)
    (found / "etc/inittab").chmod(0o640)
    return found


def everything(root: Path) -> dict[str, str]:
    """All that is below a folder, with its kind, mode and content."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        mode = f"{stat.filemode(status.st_mode)} {status.st_uid}"
        if path.is_symlink():
            found[str(path)] = f"{mode} {path.readlink()}"
        else:
            found[str(path)] = f"{mode} {path.read_text() if path.is_file() else 'folder'}"
    return found


def run(*arguments: str) -> int:
    """Run a verb for the overlay `some`."""
    return cli.main([*arguments])


def on(root: Path, verb: str, *more: str) -> int:
    """Run a verb on a root."""
    wanted = ["--init", "some"] if verb == "install" else []
    return run(verb, *wanted, "--root", str(root), *more)


def test_installs_all_that_the_overlay_says(root: Path) -> None:
    assert on(root, "install") == 0
    assert (root / "usr/local/sbin/finalstage").read_text() == "program"
    assert (root / "usr/local/share/man/man8/finalstage.8").read_text() == ".TH"
    for shell, path in completion_verb.SCRIPTS.items():
        assert (root / path).read_text() == completion_verb.script(shell)
    assert (root / "etc/init.d/finalstage").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/plain").stat().st_mode & 0o777 == 0o644
    assert (root / "sbin/poweroff").read_text() == WRAPPER
    assert os.readlink(root / "sbin/poweroff.finalstage-original") == "../bin/busybox"
    assert os.readlink(root / "etc/rc0.d/K99finalstage") == "../init.d/finalstage"
    begin, end = INITTAB.split("# the end")
    expected = f"{begin}{BLOCK}# finalstage: end\n# the end{end}"
    assert (root / "etc/inittab").read_text() == expected
    assert (root / "etc/inittab").stat().st_mode & 0o777 == 0o640
    assert (root / "etc/rc.local").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/rc.local").read_text().startswith("#!/bin/sh\n# finalstage: begin\n")


def test_uninstall_leaves_no_trace(root: Path) -> None:
    before = everything(root)
    assert on(root, "install") == 0
    assert everything(root) != before
    assert on(root, "uninstall") == 0
    assert everything(root) == before


def test_twice_is_harmless(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(root)
    on(root, "install")
    once = everything(root)
    capsys.readouterr()
    assert on(root, "install") == 0
    assert everything(root) == once
    assert capsys.readouterr().out == "finalstage: some is installed already\n"
    assert (on(root, "uninstall"), on(root, "uninstall")) == (0, 0)
    assert everything(root) == before


def test_dry_run_says_everything_and_changes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(root)
    assert on(root, "install", "--dry-run") == 0
    assert everything(root) == before
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 12
    assert "finalstage: would write /etc/plain" in said
    assert "finalstage: would move /sbin/poweroff to /sbin/poweroff.finalstage-original" in said
    on(root, "install")
    installed = everything(root)
    capsys.readouterr()
    assert on(root, "uninstall", "--dry-run") == 0
    assert everything(root) == installed
    assert len(capsys.readouterr().out.splitlines()) == 12


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("etc/plain", "is there already, and is not as finalstage left it"),
        ("usr/local/sbin/finalstage", "was not installed by finalstage"),
        ("etc/rc0.d/K99finalstage", "is there already"),
        ("sbin/poweroff.finalstage-original", "is there already"),
    ],
)
def test_refuses_to_overwrite_what_is_not_ours(
    root: Path, path: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("mine")
    before = everything(root)
    assert on(root, "install") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"/{path}" in line and said in line
    assert everything(root) == before


def test_refuses_a_program_that_is_no_link_to_busybox(root: Path) -> None:
    (root / "sbin/poweroff").unlink()
    (root / "sbin/poweroff").write_text("a real program")
    before = everything(root)
    assert on(root, "install") == 1
    assert everything(root) == before


def test_refuses_a_missing_file_to_insert_into(root: Path) -> None:
    (root / "etc/inittab").unlink()
    before = everything(root)
    assert on(root, "install") == 1
    assert everything(root) == before


def test_keeps_what_somebody_changed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on(root, "install")
    (root / "etc/plain").write_text("changed")
    with (root / "etc/inittab").open("a") as inittab:
        inittab.write("\n# mine")
    capsys.readouterr()
    assert on(root, "uninstall") == 1
    assert "/etc/plain was changed by somebody" in capsys.readouterr().err
    assert (root / "etc/plain").read_text() == "changed"
    assert (root / "etc/inittab").read_text() == INITTAB + "\n# mine"
    assert not (root / "sbin/poweroff.finalstage-original").exists()


def test_an_update_takes_back_what_is_no_longer_there(root: Path, overlays: Path) -> None:
    before = everything(root)
    on(root, "install")
    (overlays / "some/root/etc/plain").unlink()
    (overlays / "some/root/etc/init.d/finalstage").write_text(SCRIPT + "# newer")
    (overlays.parent / "program").write_text("newer program")
    assert on(root, "install") == 0
    assert not (root / "etc/plain").exists()
    assert (root / "etc/init.d/finalstage").read_text().endswith("# newer")
    assert (root / "usr/local/sbin/finalstage").read_text() == "newer program"
    assert on(root, "uninstall") == 0
    assert everything(root) == before


def test_what_two_share_stays_until_both_are_gone(root: Path, overlays: Path) -> None:
    before = everything(root)
    (overlays / "other" / "root" / "etc").mkdir(parents=True)
    (overlays / "other" / "root" / "etc" / "other").write_text("other")
    (overlays / "other" / "install.toml").write_text('init = ["other"]')
    on(root, "install")
    (overlays.parent / "program").write_text("newer program")
    assert run("install", "--init", "other", "--root", str(root)) == 0
    assert run("uninstall", "--init", "other", "--root", str(root)) == 0
    assert (root / "usr/local/sbin/finalstage").exists()
    assert not (root / "etc/other").exists()
    assert on(root, "uninstall") == 0
    assert everything(root) == before


def test_two_that_need_the_same_file_are_not_installed_together(
    root: Path, overlays: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (overlays / "other" / "root" / "etc").mkdir(parents=True)
    (overlays / "other" / "root" / "etc" / "plain").write_text("another one")
    (overlays / "other" / "install.toml").write_text("init = []")
    on(root, "install")
    before = everything(root)
    assert run("install", "--init", "other", "--root", str(root)) == 1
    assert "/etc/plain is that of some" in capsys.readouterr().err
    assert everything(root) == before


@pytest.mark.parametrize("failing", ["etc/plain", "etc/rc0.d/K99finalstage", "etc/rc.local"])
def test_a_failure_takes_back_what_was_done(
    root: Path, failing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(root)
    for kind in (changes.File, changes.Link, changes.Insert):

        def fail(self: changes.Change, root: Path, make: object = kind.make, *_: object) -> None:
            if self.path == failing:
                raise OSError(30, "Read-only file system", str(root / self.path))
            make(self, root)  # type: ignore[operator]

        monkeypatch.setattr(kind, "make", fail)
    assert on(root, "install") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Read-only file system" in line and "nothing was changed" in line
    assert everything(root) == before


def test_a_link_must_not_lead_out_of_an_image(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (root / "usr").symlink_to(tmp_path / "outside")
    assert on(root, "install") == 1
    assert not list((tmp_path / "outside").iterdir())


def test_a_record_that_makes_no_sense(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    on(root, "install")
    (root / "var/lib/finalstage/some.json").write_text("{")
    assert on(root, "uninstall") == 1
    assert "cannot make sense of" in capsys.readouterr().err


def test_unknown_names(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("install", "--init", "upstart", "--root", str(root)) == 1
    assert "it may be some" in capsys.readouterr().err
    on(root, "install")
    assert run("uninstall", "--init", "upstart", "--root", str(root)) == 1
    assert "upstart is not installed; installed: some" in capsys.readouterr().err


def pid_1(tmp_path: Path, name: str, text: str = "") -> Path:
    """A link as /proc/1/exe is one."""
    program, link = tmp_path / name, tmp_path / "exe"
    program.write_text(text)
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    return link


def test_knows_the_init_by_its_program(
    tmp_path: Path, overlays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (
        ("sysv", 'init = ["init"]\ninit-says = "SYSV"'),
        ("rc", f'init = ["init", "rc-init"]\ninit-has = "{tmp_path}/rc"'),
    ):
        (overlays / name).mkdir()
        (overlays / name / "install.toml").write_text(text)
    monkeypatch.setattr(overlay, "PID_1", pid_1(tmp_path, "someinit"))
    assert overlay.detect() == "some"
    pid_1(tmp_path, "init", "what SYSV says")
    assert overlay.detect() == "sysv"
    (tmp_path / "rc").mkdir()
    assert overlay.detect() == "rc"
    (tmp_path / "rc").rmdir()
    pid_1(tmp_path, "init", "another one of that name")
    with pytest.raises(RefusalError, match="do not know the init 'init'; say it with --init"):
        overlay.detect()


def test_what_is_only_for_some_machines(root: Path, overlays: Path) -> None:
    before = everything(root)
    with (overlays / "some/install.toml").open("a") as file:
        file.write('[only-if]\n"etc/plain" = "etc/runit"\n')
        file.write('[[insert]]\npath = "etc/nowhere"\nlines = ["x"]\noptional = true\n')
    assert on(root, "install") == 0
    assert not (root / "etc/plain").exists() and not (root / "etc/nowhere").exists()
    (root / "etc/runit").mkdir()
    assert on(root, "install") == 0
    assert (root / "etc/plain").read_text() == "plain"
    (root / "etc/runit").rmdir()
    assert on(root, "uninstall") == 0
    assert everything(root) == before


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        (
            "#!/bin/sh\n\nexec s6-rc change\n",
            {"first": True},
            "#!/bin/sh\nOURS\n\nexec s6-rc change\n",
        ),
        ("::respawn:/bin/sh\n", {"first": True}, "OURS\n::respawn:/bin/sh\n"),
        ("one\n\nthree\n", {}, "one\n\nthree\nOURS\n"),
        ("one\n\nthree", {}, "one\n\nthree\nOURS"),
        ("one\ntwo\n", {"before": "two"}, "one\nOURS\ntwo\n"),
        ("", {"first": True}, "OURS\n"),
    ],
)
def test_where_lines_are_inserted(
    tmp_path: Path, text: str, where: dict[str, Any], expected: str
) -> None:
    (tmp_path / "file").write_text(text)
    insert = changes.Insert("file", ("ours",), **where)
    insert.make(tmp_path)
    block = f"{changes.BEGIN}\nours\n{changes.END}"
    assert (tmp_path / "file").read_text() == expected.replace("OURS", block)
    insert.undo(tmp_path)
    assert (tmp_path / "file").read_text() == text
