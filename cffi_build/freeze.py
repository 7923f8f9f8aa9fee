"""Runs PyInstaller: one-dir for the stage, one-file for the tool that people call.

The stage holds exactly the modules that importing it loads, measured in a fresh interpreter:
nothing is imported late (DESIGN.md, rule 4), so nothing else can be needed. PyInstaller would
follow every import statement it sees, and bring along some hundred modules more.
"""

import encodings
import importlib.util
import json
import marshal
import os
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from cffi_build import project

# What PyInstaller's importers import; the rest of it is frozen into libpython.
BOOTSTRAP = frozenset(("_struct", "_thread", "marshal", "sys", "zlib"))
# A stream or a path may be decoded with these when the locale says so.
ENCODINGS = frozenset(
    f"encodings{name}" for name in ("", ".aliases", ".utf_8", ".ascii", ".latin_1")
)
VARIABLE = "FINALSTAGE_FREEZE"

MEASURE = """
import sys
sys.path[:0] = {paths!r}
import {module}
for name, module in sys.modules.items():
    spec = getattr(module, "__spec__", None)  # cffi's `lib` is in the list too, and no module
    if spec is not None and spec.origin != "frozen":
        print(name)
"""


@dataclass(frozen=True)
class Freeze:
    """What a spec file is told; it travels to PyInstaller's process in the environment."""

    name: str
    bootloader: str
    root: str = str(project.ROOT)
    modules: tuple[str, ...] = ()  # everything that may go in; empty: all that PyInstaller finds
    base_library: str = ""  # the archive that takes the place of PyInstaller's base_library.zip
    payload: str = ""  # folder that a one-file executable carries along

    @classmethod
    def from_environment(cls) -> "Freeze":
        """The plan that `run` put into the environment."""
        return cls(**json.loads(os.environ[VARIABLE]))

    def run(self, out: Path) -> Path:
        """Runs PyInstaller with the spec file of this name; returns what it wrote in `out`."""
        work = project.BUILD / "pyinstaller"
        environment = {
            **os.environ,
            VARIABLE: json.dumps(asdict(self)),
            "PYINSTALLER_CONFIG_DIR": str(work / "config"),
            "PYTHONHASHSEED": "0",
            "SOURCE_DATE_EPOCH": str(project.source_date()),
        }
        log = project.BUILD / f"{self.name}.log"
        command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
        command += ["--distpath", str(out), "--workpath", str(work / self.name)]
        command += [str(project.ROOT / f"cffi_build/{self.name}.spec")]
        with log.open("w") as output:
            done = subprocess.run(
                command,
                cwd=project.ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode != 0:
            raise project.die(f"PyInstaller failed:\n{log.read_text()}")
        return out / self.name


def imported_modules(module: str) -> frozenset[str]:
    """Names of all modules that a fresh interpreter has loaded when it has imported `module`.

    Leaves out those that are frozen into libpython, such as os.
    """
    backend = importlib.util.find_spec("_cffi_backend")
    if backend is None or backend.origin is None:
        raise project.die("cffi is not installed", "make setup")
    paths = [str(project.ROOT), str(Path(backend.origin).parent)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURE.format(paths=paths, module=module)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise project.die(f"{module} cannot be imported:\n{done.stderr}")
    return frozenset(done.stdout.split()) - {"__main__"}


def base_library(needed: frozenset[str], path: Path) -> Path:
    """Writes the archive with the encodings, which Python needs before PyInstaller's importers run.

    The other modules that it usually holds are frozen into libpython, or come with all the others.
    """
    folder = Path(str(encodings.__file__)).parent
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(name for name in needed if name.split(".")[0] == "encodings"):
            stem = name.partition(".")[2] or "__init__"
            code = _compile((folder / f"{stem}.py").read_text(), f"encodings/{stem}.py")
            archive.writestr(zipfile.ZipInfo(f"encodings/{stem}.pyc"), code)
    return path


def _compile(source: str, name: str) -> bytes:
    """A .pyc file that is never compared with a source file (PEP 552: hash-based, unchecked)."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=2)
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
    return header + marshal.dumps(code)
