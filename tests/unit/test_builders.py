"""The files for image builders: read, and as far as that goes run, by the builders' own tools.

Those of dracut and initramfs-tools are run for real, and what they make is booted: tests/vm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import kconfiglib
import pytest

from finalstage import __version__
from finalstage.cli.staged import payload
from tests.vm import debian
from tests.vm.cache import once

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
OVERLAYS = ROOT / "initramfs-overlay"
BUILDERS = ("buildroot", "cpio", "dracut", "initramfs-tools", "mkinitcpio", "mkosi", "yocto")
HEADINGS = ["Install", "What happens at shutdown", "How to see that it worked", "Undo"]
DRACUT = OVERLAYS / "dracut/root/usr/lib/dracut/modules.d/99finalstage"
INITRAMFS_TOOLS = OVERLAYS / "initramfs-tools/root/etc/initramfs-tools"
MKINITCPIO = OVERLAYS / "mkinitcpio/root"
YOCTO = OVERLAYS / "yocto"
UNIT = "usr/lib/systemd/system/finalstage-tree.service"

STAGING = "/usr/lib/finalstage-tree/shutdown --stage /run/initramfs"
"""What every one of them has the initramfs run."""

RUN_BY_THE_INITRAMFS = (
    DRACUT / "stage.sh",
    INITRAMFS_TOOLS / "scripts/init-bottom/finalstage",
    MKINITCPIO / "etc/initcpio/hooks/finalstage",
    MKINITCPIO / UNIT,
    OVERLAYS / "mkosi/mkosi.extra" / UNIT,
    YOCTO / "recipes-core/finalstage/files/initramfs-module",
)


def with_tool(shell: str, script: str, folder: Path, *, there: bool = True) -> str:
    """Return what a script prints where the program is installed, or is not, and nothing else."""
    tool = f"cp {DIST / 'finalstage'} /usr/local/sbin;" if there else ""
    prepare = f"set -eu; mount -t tmpfs tmpfs /usr/local/sbin; {tool} cd {folder}\n"
    command = ("unshare", "--mount", "--propagation", "private", shell, "-c", prepare + script)
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_an_initramfs_stages_by_one_command() -> None:
    assert [path for path in RUN_BY_THE_INITRAMFS if STAGING not in path.read_text()] == []


def test_there_is_one_unit() -> None:
    assert (MKINITCPIO / UNIT).read_text() == (OVERLAYS / "mkosi/mkosi.extra" / UNIT).read_text()


@pytest.mark.parametrize("name", BUILDERS)
def test_each_has_a_page(name: str) -> None:
    lines = (OVERLAYS / name / "README.md").read_text().splitlines()
    assert [line[3:] for line in lines if line.startswith("## ")] == HEADINGS


SHELLS = {
    "#!/bin/bash": ("bash",),
    "#!/bin/sh": ("sh",),
    "#!/sbin/openrc-run": ("sh", "--exclude=SC2034"),  # it reads variables that nothing uses
    "#!/usr/bin/ash": ("dash",),
    "#!/usr/bin/env bash": ("bash",),
}
SCRIPTS = {
    path: first
    for path in sorted(OVERLAYS.rglob("*"))
    if path.is_file() and (first := path.read_text().partition("\n")[0]).startswith("#!")
}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(OVERLAYS)))
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    shell, *options = SHELLS[SCRIPTS[path]]
    command = ["shellcheck", f"--shell={shell}", *options, str(path)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""


def test_shellcheck_sees_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n[[ $1 == a ]]\n")
    command = ("shellcheck", "--shell=sh", tmp_path / "script")
    assert "SC3010" in subprocess.run(command, capture_output=True, text=True).stdout


# -- dracut, its functions imitated --------------------------------------------------------------

IN_DRACUT = f"""
derror() {{ echo "derror: $*"; }}
inst_hook() {{ echo "hook $1 $2 $(basename "$3")"; }}
include_src=() include_target=() aggressive_strip=yes moddir={DRACUT}
. $moddir/module-setup.sh
check || {{ echo "not included"; exit 0; }}
"""


def test_dracut_includes_the_tree_past_its_search_for_libraries(tmp_path: Path) -> None:
    script = f"""{IN_DRACUT}
    DRACUT_TMPDIR=$PWD
    install >log
    tail -n 1 log; echo "${{include_src[@]}}" "${{include_target[@]}}" $aggressive_strip"""
    assert with_tool("bash", script, tmp_path).splitlines() == [
        "hook cleanup 99 stage.sh",
        f"{tmp_path}/finalstage-tree /usr/lib/finalstage-tree no",
    ]
    assert payload.differences(tmp_path / "finalstage-tree") == []


def test_dracut_goes_without_where_the_tree_cannot_be_written(tmp_path: Path) -> None:
    script = f"{IN_DRACUT} DRACUT_TMPDIR=/proc; install && exit 1; echo ${{#include_src[@]}}"
    assert with_tool("bash", script, tmp_path).splitlines() == [
        "derror: finalstage is not in this initramfs",
        "0",
    ]


def test_dracut_goes_without_where_the_program_has_gone(tmp_path: Path) -> None:
    assert with_tool("bash", IN_DRACUT, tmp_path, there=False) == "not included\n"


# -- initramfs-tools -----------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["hooks/finalstage", "scripts/init-bottom/finalstage"])
def test_initramfs_tools_is_told_of_no_prerequisite(script: str, tmp_path: Path) -> None:
    asked = f"DESTDIR=$PWD {INITRAMFS_TOOLS / script} prereqs; ls"
    assert with_tool("sh", asked, tmp_path) == ""


def test_initramfs_tools_goes_without_where_the_program_has_gone(tmp_path: Path) -> None:
    script = f"DESTDIR=$PWD {INITRAMFS_TOOLS / 'hooks/finalstage'} 2>said; tail -n 1 said; ls -A"
    said = with_tool("sh", script, tmp_path, there=False)
    assert said == "W: finalstage is not in this initramfs\nsaid\n"


def test_initramfs_tools_gets_the_tree(tmp_path: Path) -> None:
    with_tool("sh", f"DESTDIR=$PWD {INITRAMFS_TOOLS / 'hooks/finalstage'}", tmp_path)
    assert payload.differences(tmp_path / "usr/lib/finalstage-tree") == []


# -- mkinitcpio, its functions imitated: no package of Debian or PyPI has it ---------------------

IN_MKINITCPIO = f"""
error() {{ echo "error: $*"; return 1; }}
add_file() {{ mkdir -p "$BUILDROOT$(dirname "$1")"; cp "{MKINITCPIO}$1" "$BUILDROOT$1"; }}
add_symlink() {{ mkdir -p "$BUILDROOT$(dirname "$1")"; ln -sfn "$2" "$BUILDROOT$1"; }}
add_runscript() {{
    [ $hook = shutdown ] || grep -q '^run_cleanuphook()' {MKINITCPIO}/etc/initcpio/hooks/$hook
    cleanup="$hook $cleanup"
}}
BUILDROOT=$PWD/image cleanup= HOOKS=(base udev shutdown)
. {MKINITCPIO}/etc/mkinitcpio.conf.d/finalstage.conf
for hook in "${{HOOKS[@]}}"; do
    case $hook in
    finalstage) . {MKINITCPIO}/etc/initcpio/install/finalstage; build || true ;;
    shutdown) add_runscript ;;
    esac
done
echo cleanup: $cleanup
"""


def test_mkinitcpio_gets_the_tree_the_hook_and_the_unit(tmp_path: Path) -> None:
    """The hook runs last: so that another one does not write over what it has put there."""
    assert with_tool("bash", IN_MKINITCPIO, tmp_path) == "cleanup: shutdown finalstage\n"
    image = tmp_path / "image"
    assert payload.differences(image / "usr/lib/finalstage-tree") == []
    wanted = image / "usr/lib/systemd/system/sysinit.target.wants/finalstage-tree.service"
    assert wanted.read_text() == (MKINITCPIO / UNIT).read_text()


def test_mkinitcpio_goes_without_where_the_program_has_gone(tmp_path: Path) -> None:
    said = with_tool("bash", f"exec 2>&1; {IN_MKINITCPIO}", tmp_path, there=False).splitlines()
    assert said[-2:] == ["error: finalstage is not in this initramfs", "cleanup: shutdown"]


# -- mkosi ---------------------------------------------------------------------------------------


def mkosi(suite: str, folder: Path, *options: str) -> str:
    """Return the summary that a Debian suite's mkosi prints of the configuration in a folder."""

    def build(target: Path) -> None:
        debian.Archive(target / "apt", suite).unpack(["mkosi"], target / "packages")

    place = once(f"mkosi-{suite}", build) / "packages/usr/lib/python3/dist-packages"
    ran = subprocess.run(
        (sys.executable, "-m", "mkosi", *options, "summary"),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout or ran.stderr  # of mkosi 14


def test_mkosi_takes_tree_and_unit_into_what_includes_the_folder(tmp_path: Path) -> None:
    """mkosi 25."""
    (tmp_path / "mkosi.conf").write_text(
        f"""
        [Distribution]
        Distribution=debian
        [Include]
        Include={OVERLAYS / "mkosi"}
        """.replace("        ", "")
    )
    (image,) = json.loads(mkosi("trixie", tmp_path, "--json"))["Images"]
    trees = [(Path(tree["Source"]).resolve(), tree["Target"]) for tree in image["ExtraTrees"]]
    assert trees == [
        (OVERLAYS / "mkosi/mkosi.extra", None),
        (DIST / "finalstage-tree.tar.xz", "/usr/lib/finalstage-tree"),
    ]
    assert all(source.exists() for source, _ in trees)


def test_an_older_mkosi_takes_the_folder_that_lies_beside(tmp_path: Path) -> None:
    """mkosi 14."""
    subprocess.run(("cp", "-a", OVERLAYS / "mkosi/mkosi.extra", tmp_path), check=True)
    found = [line.split() for line in mkosi("bookworm", tmp_path).splitlines()]
    assert ["Extra", "Trees:", str(tmp_path / "mkosi.extra")] in found


def test_mkosi_has_the_unit_started() -> None:
    wants = OVERLAYS / "mkosi/mkosi.extra/usr/lib/systemd/system/sysinit.target.wants"
    assert [link.resolve() for link in wants.iterdir()] == [OVERLAYS / "mkosi/mkosi.extra" / UNIT]


# -- Buildroot, the few parts of it that the package uses imitated -------------------------------

IN_BUILDROOT = r"""
qstrip = $(strip $(subst ",,$(1)))
define sep


endef
define generic-package
FINALSTAGE_DIR := $(BUILD_DIR)/finalstage-$(FINALSTAGE_VERSION)
endef
include $(BR2_EXTERNAL_FINALSTAGE_PATH)/external.mk
rootfs:
	mkdir -p $(FINALSTAGE_DIR)
	touch $(FINALSTAGE_DIR)/.stamp_built
	cp -a $(FINALSTAGE_SITE)/. $(FINALSTAGE_DIR)
	$(foreach hook,$(FINALSTAGE_ROOTFS_PRE_CMD_HOOKS),$($(hook))$(sep))
"""


def chosen(monkeypatch: pytest.MonkeyPatch, folder: Path, machine: str) -> kconfiglib.Kconfig:
    """Return Buildroot's configuration with the package chosen, on a kind of machine."""
    monkeypatch.setenv("BR2_EXTERNAL_FINALSTAGE_PATH", str(OVERLAYS / "buildroot"))
    config = folder / "Config.in"
    external = (OVERLAYS / "buildroot/Config.in").read_text()
    config.write_text(f"config {machine}\n\tbool\n\tdefault y\n{external}")
    found = kconfiglib.Kconfig(str(config))
    found.syms["BR2_PACKAGE_FINALSTAGE"].set_value("y")
    assert found.warnings == []
    return found


def test_buildroot_puts_the_tree_into_the_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = chosen(monkeypatch, tmp_path, "BR2_x86_64")
    assert config.syms["BR2_PACKAGE_FINALSTAGE"].str_value == "y"
    tree = config.syms["BR2_PACKAGE_FINALSTAGE_TREE"].str_value
    (tmp_path / "Makefile").write_text(IN_BUILDROOT)
    target = tmp_path / "target"
    settings = (
        f"BR2_EXTERNAL_FINALSTAGE_PATH={OVERLAYS / 'buildroot'}",
        f'BR2_PACKAGE_FINALSTAGE_TREE="{tree}"',
        *(f"BUILD_DIR={tmp_path / 'build'}", f"TARGET_DIR={target}"),
    )
    command = ("make", "--silent", "--warn-undefined-variables", *settings)
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    image = target / "usr/lib/finalstage-tree"
    assert payload.differences(image) == []
    assert {path.name for path in image.iterdir()} == {p.name for p in (DIST / "tree").iterdir()}


def test_buildroot_has_it_for_no_other_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = chosen(monkeypatch, tmp_path, "BR2_arm")
    assert config.syms["BR2_PACKAGE_FINALSTAGE"].str_value == "n"


def test_buildroot_is_told_the_version() -> None:
    package = OVERLAYS / "buildroot/package/finalstage/finalstage.mk"
    assert f"FINALSTAGE_VERSION = {__version__}\n" in package.read_text()


# -- Yocto: BitBake's own parser, in a process of its own ----------------------------------------

IN_BITBAKE = """
import glob, json, sys, types
# The client of its server of hashes, which no package on PyPI has; it is for what was built.
for name in ("hashserv", "hashserv.client"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["hashserv"].client = sys.modules["hashserv.client"]
import bb, bb.cookerdata, bb.data, bb.parse, bb.siggen

layer, folder, version, *names = sys.argv[1:]
assert glob.glob(layer + "/*/*/finalstage_" + version + ".bb")
found = bb.data.init()
found.setVar("BBPATH", folder)
found.setVar("TOPDIR", folder)
found.setVar("LAYERDIR", layer)
found.setVar("nonarch_libdir", "/usr/lib")
found.setVar("UNPACKDIR", folder + "/sources")
found.setVar("D", folder + "/image")
found = bb.parse.handle(layer + "/conf/layer.conf", found, include=True)
bb.parse.siggen = bb.siggen.SignatureGenerator(found)
(recipe,) = glob.glob(found.getVar("BBFILES").strip())
found.setVar("PN", "finalstage")
found = bb.parse.handle(recipe, found)[""]
print(json.dumps({name: found.getVar(name) for name in names}))
"""
BASE_CLASS = "addtask install\ndo_install() {\n    :\n}\n"


def recipe(folder: Path, *names: str) -> dict[str, str]:
    """Return what BitBake knows of the recipe; `folder` holds what is built."""
    (folder / "classes").mkdir()
    (folder / "classes/base.bbclass").write_text(BASE_CLASS)
    command = [sys.executable, "-c", IN_BITBAKE, str(YOCTO), str(folder), __version__, *names]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def test_bitbake_understands_the_recipe(tmp_path: Path) -> None:
    found = recipe(
        tmp_path, "SRC_URI", "PACKAGES", "FILES:finalstage", "FILES:initramfs-module-finalstage"
    )
    archive, module = found["SRC_URI"].split()
    place, _, folder = archive.removeprefix("file://").partition(";")
    assert (Path(place).resolve(), folder) == (DIST / "finalstage-tree.tar.xz", "subdir=tree")
    assert (YOCTO / "recipes-core/finalstage/files" / module.removeprefix("file://")).is_file()
    assert found["PACKAGES"].split() == ["finalstage", "initramfs-module-finalstage"]
    assert found["FILES:finalstage"] == "/usr/lib/finalstage-tree"
    assert found["FILES:initramfs-module-finalstage"] == "/init.d"


def test_what_the_recipe_installs(tmp_path: Path) -> None:
    script = recipe(tmp_path, "do_install")["do_install"]
    sources, image = tmp_path / "sources", tmp_path / "image"
    (sources / "tree").mkdir(parents=True)
    archive = DIST / "finalstage-tree.tar.xz"
    subprocess.run(("tar", "-xpf", archive, "-C", sources / "tree"), check=True)
    module = YOCTO / "recipes-core/finalstage/files/initramfs-module"
    subprocess.run(("cp", module, sources), check=True)
    subprocess.run(("sh", "-euc", script), check=True)
    assert payload.differences(image / "usr/lib/finalstage-tree") == []
    installed = image / "init.d/95-finalstage"
    assert installed.read_text() == module.read_text()
    # As initramfs-framework's /init calls it: by the name of the file behind its number.
    ran = subprocess.run(("sh", "-euc", f". {installed}; finalstage_enabled; type finalstage_run"))
    assert ran.returncode == 0
