"""The ready files for inits in initramfs-overlay/. For image builders: test_builders.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from finalstage import cli
from finalstage.cli.install import installation, overlay

FOLDER = Path(__file__).parents[2] / "initramfs-overlay"
INITS = sorted(name for name in overlay.names() if overlay.read(name).inits or name == "none")
PAGE = ["Install", "What happens at shutdown", "How to see that it worked", "Undo"]

# What has to be there before: files, and links to busybox.
NEEDED = {
    "busybox": ("etc/inittab", "etc/rc.conf", "etc/conf.d/localmount"),
    "openrc": ("etc/conf.d/localmount",),
    "s6-linux-init": ("etc/s6-linux-init/current/scripts/rc.shutdown",),
    "runit": ("etc/rc0.d/README", "etc/runit/shutdown.d/10-stop.sh"),
}
LINKS = {"busybox": ("sbin/poweroff", "sbin/reboot", "sbin/halt")}


def everything(root: Path) -> dict[str, str]:
    """What is below a folder: links by their target, files by their text."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "program").write_text("program")
    monkeypatch.setattr(installation, "this_program", lambda: tmp_path / "program")
    return tmp_path / "root"


@pytest.mark.parametrize("name", INITS)
def test_installs_and_leaves_no_trace(root: Path, name: str) -> None:
    for path in NEEDED.get(name, ()):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("#!/bin/sh -e\nexec true\n")
    for path in LINKS.get(name, ()):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to("../bin/busybox")
    root.mkdir(exist_ok=True)
    before = everything(root)
    assert cli.main(["install", "--init", name, "--root", str(root)]) == 0
    installed = everything(root)
    assert installed.keys() - before.keys() > {str(root / installation.PROGRAM)}
    assert cli.main(["uninstall", "--root", str(root)]) == 0
    assert everything(root) == before


def test_only_what_a_machine_has_folders_for(root: Path) -> None:
    (root / "etc/runit/core-services").mkdir(parents=True)
    cli.main(["install", "--init", "runit", "--root", str(root)])
    assert (root / "etc/runit/core-services/99-finalstage.sh").is_file()
    assert not (root / "etc/init.d").exists()
    assert not (root / "etc/runit/shutdown.d").exists()


def test_lines_come_before_an_exec_and_before_others_of_their_kind(root: Path) -> None:
    shutdown = root / "etc/s6-linux-init/current/scripts/rc.shutdown"
    shutdown.parent.mkdir(parents=True)
    shutdown.write_text("#!/bin/sh -e\nexec s6-rc -bDa change\n")
    cli.main(["install", "--init", "s6-linux-init", "--root", str(root)])
    lines = shutdown.read_text().splitlines()
    assert lines[0] == "#!/bin/sh -e"
    assert lines.index("/usr/lib/finalstage/keep || :") < lines.index("exec s6-rc -bDa change")


@pytest.mark.parametrize("name", INITS)
def test_each_init_has_its_page(name: str) -> None:
    lines = (FOLDER / name / "README.md").read_text().splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == PAGE
    assert f"finalstage install --init {name}" in (FOLDER / name / "README.md").read_text()


@pytest.mark.parametrize(
    ("one", "other", "begin"),
    [
        ("sysvinit/root/etc/init.d/finalstage", "runit/root/etc/init.d/finalstage", ""),
        (
            "sysvinit/root/etc/insserv.conf.d/finalstage",
            "runit/root/etc/insserv.conf.d/finalstage",
            "",
        ),
        (
            "sysvinit/root/usr/lib/finalstage/hand-over",
            "openrc/root/usr/lib/finalstage/hand-over",
            'exec 9<"$init"',
        ),
    ],
)
def test_what_two_inits_share_is_the_same(one: str, other: str, begin: str) -> None:
    texts = [(FOLDER / name).read_text() for name in (one, other)]
    assert texts[0][texts[0].index(begin) :] == texts[1][texts[1].index(begin) :]


# -- what has become of the tree in the meantime is seen before anything is given up ---------------

TREE = FOLDER.parent / "dist/tree"
TEST = 'chroot "$tree" /shutdown --version >/dev/null 2>&1'
"""Starts launcher and stage in the tree."""

GIVEN_UP = (
    'mount --bind "$tree/shutdown"',
    'exec "$tree/shutdown"',
    "kill -QUIT 1",
    "kill -ABRT 1",
)
LEAVES = [
    path
    for path in sorted(FOLDER.rglob("root/usr/lib/finalstage/*"))
    if any(words in path.read_text() for words in GIVEN_UP)
]
DAMAGE = {
    "nothing": "",
    "no tree": "rm -r $tree",
    "an empty folder": "rm -r $tree; mkdir $tree",
    "no launcher": "rm $tree/shutdown",
    "half a launcher": "truncate -s 1000 $tree/shutdown",
    "an empty launcher": ": >$tree/shutdown",
    "no stage": "rm -r $tree/usr",
    "half a libpython": "truncate -s 1000000 $tree/usr/lib/finalstage/_internal/libpython3*",
    "no C library": "rm $tree/usr/lib/finalstage/_internal/libc.so.6",
}


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_the_tree_is_tried_before_init_leaves_its_way(path: Path) -> None:
    text = path.read_text()
    first = min(text.index(words) for words in GIVEN_UP if words in text)
    assert TEST in text[: first + len(TEST)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_sees_what_has_become_of_the_tree(tmp_path: Path, damage: str) -> None:
    script = f"tree=$1; cp -a {TREE} $tree; {DAMAGE[damage]}\n{TEST}"
    as_root = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    ran = subprocess.run([*as_root, "sh", "-c", script, "sh", tmp_path / "tree"], env=path)
    assert (ran.returncode == 0) == (damage == "nothing")


def test_what_runs_the_machine_is_a_whole_name() -> None:
    """A word in place of a list of words would be as many inits as it has letters."""
    inits = {name: overlay.read(name).inits for name in overlay.names()}
    assert inits["systemd"] == ("systemd",)
    assert [name for name, found in inits.items() if any(len(each) < 4 for each in found)] == []
