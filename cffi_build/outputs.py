"""Builds dist/tree, the tree as cpio and as tar, dist/payload and dist/finalstage."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cffi_build import archive, completions, frozen, man, project, tree
from cffi_build.bootloader import STAGE_LINK_FLAGS, bootloader, one_file_bootloader
from cffi_build.freeze import ENCODINGS, Freeze, imported_modules
from cffi_build.libpython import small_libpython
from finalstage.cli.staged.payload import ARCHIVE, MANIFEST

TREE = project.DIST / "tree"
CPIO = project.DIST / "finalstage-tree.cpio.zst"
TAR = project.DIST / "finalstage-tree.tar.xz"
PAYLOAD = project.DIST / "payload"
TOOL = project.DIST / "finalstage"
FROZEN = project.BUILD / "frozen"
PACKER = project.BUILD / "packer"
"""By which form of archive.py the tree was packed last."""


def build_outputs() -> None:
    """Builds all of them; packs the tree again only if it has changed."""
    project.DIST.mkdir(exist_ok=True)
    with ThreadPoolExecutor() as pool:
        packed = None
        if _build_tree():
            packed = pool.submit(archive.write_cpio, TREE, CPIO)
            archive.write_payload(TREE, PAYLOAD)
            shutil.copyfile(PAYLOAD / ARCHIVE, TAR)
        man.build_pages()
        completions.build_completions()
        project.say("freezing the tool")
        plan = Freeze(
            TOOL.name,
            str(one_file_bootloader()),
            inner=str(bootloader("tool", "")),
            payload=str(PAYLOAD),
        )
        plan.run(FROZEN).replace(TOOL)
        if packed is not None:
            packed.result()
    project.say(f"tree {_size(TREE)}, {CPIO.name} {_size(CPIO)}, {TOOL.name} {_size(TOOL)}")


def _build_tree() -> bool:
    """Builds dist/tree; says whether it differs from the one that was packed last."""
    modules = imported_modules("finalstage.wipe") | ENCODINGS  # and the stage
    project.say(f"freezing the stage: {len(modules)} modules")
    plan = Freeze(
        "stage",
        str(bootloader("stage", STAGE_LINK_FLAGS)),
        modules=tuple(sorted(modules)),
    )
    new = project.BUILD / "tree"
    tree.assemble(new, plan.run(FROZEN), small_libpython(modules, frozen.compiled(modules)))
    known = PAYLOAD / MANIFEST
    packer = project.file_digest(Path(archive.__file__))
    same = (
        all(output.exists() for output in (CPIO, TAR, TREE, known, PACKER))
        and PACKER.read_text() == packer
        and archive.manifest(new) == archive.manifest(TREE) == known.read_text()
    )
    if not same:
        # Both come back only when they are complete: a build that broke off is not trusted.
        known.unlink(missing_ok=True)
        CPIO.unlink(missing_ok=True)
        shutil.rmtree(TREE, ignore_errors=True)
        new.rename(TREE)
        PACKER.write_text(packer)
    return not same


def _size(path: Path) -> str:
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{sum(file.lstat().st_size for file in files) / 1e6:.1f} MB"
