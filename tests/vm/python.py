"""Python in guests: this machine's own, with just the modules that a program of ours imports.

It is not frozen as the stage is: what a program in `tests.inside` asks goes through the same
modules of finalstage to the same kernel, and to freeze a second one takes far longer than this.
"""

from __future__ import annotations

import importlib.util
import py_compile
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.vm.cache import PROJECT, digest, once

_HERE = Path(__file__).resolve().parent
_INTERPRETER = "python"
_LIBRARIES = "libraries"
_MODULES = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
# Prints each module that is loaded, and the file that it comes from; others are built in.
_MEASURE = """
import sys
sys.path[:0] = {paths!r}
import {module}
for name, module in sys.modules.items():
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.has_location:
        print(name, spec.origin)
"""


def folder(module: str) -> Path:
    """The folder with all that a guest needs to run the program `module`."""
    modules = _modules(module)
    key = digest(sys.version, sorted(modules), *modules.values(), Path(__file__))

    def build(target: Path) -> None:
        (target / _LIBRARIES).mkdir()
        interpreter = Path(sys.executable).resolve()
        shutil.copy(interpreter, target / _INTERPRETER)
        for name, file in modules.items():
            _copy_module(name, file, target / _MODULES)
        for file in (interpreter, *modules.values()):
            for library in _libraries(file) if file.suffix != ".py" else ():
                shutil.copy(library, target / _LIBRARIES)

    return once(f"python-{key}", build)


def command(place: str, module: str, *arguments: str) -> str:
    """Shell text that runs the function `main` of `module`, whose folder lies at `place`."""
    libraries = f"{place}/{_LIBRARIES}"
    loader = f"{libraries}/ld-linux-x86-64.so.2 --library-path {libraries}"
    # Not the usual way out: the stage's threads, which never end, would each need libgcc to do so.
    program = f"import os, sys; from {module} import main; main(); sys.stdout.flush(); os._exit(0)"
    words = f"{loader} {place}/{_INTERPRETER} -S -B -X utf8 -c '{program}' {' '.join(arguments)}"
    return f"PYTHONHOME={place} {words}"


@cache
def _modules(module: str) -> dict[str, Path]:
    """The files of all modules that are loaded when a fresh interpreter has imported `module`."""
    backend = importlib.util.find_spec("_cffi_backend")
    assert backend and backend.origin, "cffi is not installed"
    paths = [str(PROJECT), str(Path(backend.origin).parent)]
    code = _MEASURE.format(paths=paths, module=module)
    found = subprocess.run(
        (sys.executable, "-I", "-S", "-c", code), check=True, stdout=subprocess.PIPE, text=True
    )
    pairs = (line.split(" ", 1) for line in found.stdout.splitlines())
    return {name: Path(file) for name, file in pairs}


def _copy_module(name: str, file: Path, folder: Path) -> None:
    """Copy an extension as it is; compile what is written in Python, for a slow processor."""
    place = folder.joinpath(*name.split("."))
    if file.name == "__init__.py":
        place /= "__init__"
    place.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".py":
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        name = str(file.relative_to(PROJECT)) if file.is_relative_to(PROJECT) else file.name
        target = place.with_name(f"{place.name}.pyc")
        py_compile.compile(str(file), str(target), name, doraise=True, invalidation_mode=unchecked)
    else:
        shutil.copy(file, place.with_name(file.name))


def _libraries(file: Path) -> list[str]:
    """The libraries that ld.so would load for an ELF file, ld.so among them."""
    listing = subprocess.run(("ldd", file), check=True, stdout=subprocess.PIPE, text=True).stdout
    words = (line.split() for line in listing.splitlines())
    return [word for line in words for word in line if word.startswith("/")]
