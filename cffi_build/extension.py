"""Compiles finalstage.kernel._linux, the cffi extension, and puts it beside its Python sources."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from cffi_build import project

FOLDER = project.ROOT / "finalstage/kernel"
EMIT = "from cffi_build.builder import ffi; ffi.emit_c_code({c_file!r})"
COMPILE = "from cffi_build.builder import ffi; print('built', ffi.compile(tmpdir={folder!r}))"

# Debugging data names the folder that it was built in, and a build ID is a digest of that too.
SAME_IN_EVERY_FOLDER = {"CFLAGS": "-g0", "LDFLAGS": "-Wl,--build-id=none"}


def build_extension() -> Path:
    """The compiled extension; the compiler runs only if the C code or the headers have changed."""
    folder = project.BUILD / "extension"
    folder.mkdir(parents=True, exist_ok=True)
    c_file = folder / "_linux.c"
    _run(EMIT.format(c_file=str(c_file)))
    key = project.digest(
        c_file.read_bytes(),
        Path("/usr/include/linux/version.h").read_bytes(),
        version("cffi"),
        project.compiler_version(),
        project.python_identity(),
        *(path.read_bytes() for path in project.sources("cffi_build/topics")),
        (project.ROOT / "cffi_build/builder.py").read_bytes(),
        Path(__file__).read_bytes(),
    )
    stamp = folder / "stamp"
    there = list(FOLDER.glob("_linux.*.so"))
    if len(there) == 1 and stamp.exists() and stamp.read_text() == key:
        return there[0]
    project.say("compiling finalstage.kernel._linux")
    for old in there:
        old.unlink()
    built = Path(_run(COMPILE.format(folder=str(folder))).rpartition("built ")[2].strip())
    target = FOLDER / built.name
    shutil.copyfile(built, target)
    stamp.write_text(key)
    return target


def _run(code: str) -> str:
    """Runs Python where setuptools, which cffi calls, finds no pyproject.toml to complain about."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.BUILD,
        env={**os.environ, "PYTHONPATH": str(project.ROOT), **SAME_IN_EVERY_FOLDER},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise project.die(f"the cffi extension does not build:\n{done.stdout}")
    if "warning:" in done.stdout:
        print(done.stdout)
    return done.stdout


if __name__ == "__main__":
    print(build_extension())
