"""`make dist`: brings the cffi extension and all that is in dist/ up to date.

Does nothing if neither sources nor tools have changed. What takes long and changes seldom (the
bootloader, the small libpython, the extension) is kept in .build/ under a key of all that goes into
it.
"""

import fcntl
import sys
from importlib.metadata import version
from pathlib import Path

from cffi_build import project
from cffi_build.extension import build_extension

STAMP = project.BUILD / "dist.stamp"


def main() -> int:
    """Builds what is not up to date; one build at a time."""
    project.BUILD.mkdir(exist_ok=True)
    with (project.BUILD / "dist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        key = _key()
        if STAMP.exists() and STAMP.read_text() == key and _all_there():
            return 0
        STAMP.unlink(missing_ok=True)
        build_extension()
        # Not before: it imports parts of finalstage, and those may import the extension.
        from cffi_build.outputs import build_outputs

        build_outputs()
        STAMP.write_text(key)
    return 0


def _all_there() -> bool:
    packed = ("finalstage-tree.cpio.zst", "finalstage-tree.tar.xz", "payload/tree.manifest")
    outputs = (
        "tree/finalstage",
        *packed,
        "man/man8/finalstage.8",
        "completions/fish",
        "finalstage",
    )
    extensions = (project.ROOT / "finalstage/kernel").glob("_linux.*.so")
    return any(extensions) and all((project.DIST / output).exists() for output in outputs)


def _key() -> str:
    """Changes whenever a source, a tool or a setting does that the outputs depend on."""
    files = [*project.sources("finalstage", "cffi_build"), project.ROOT / "pyproject.toml"]
    files += filter(Path.is_file, sorted((project.ROOT / "initramfs-overlay").rglob("*")))
    marks = [f"{path.relative_to(project.ROOT)} {project.file_digest(path)}" for path in files]
    tools = [*map(version, ("cffi", "pyinstaller", "shtab")), project.compiler_version()]
    date = str(project.source_date())
    return project.digest(*marks, *tools, project.python_identity(), date)


if __name__ == "__main__":
    sys.exit(main())
