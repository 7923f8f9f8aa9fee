"""Runs PyInstaller: one-dir for the stage, one-file for the tool that people call.

The stage holds exactly the modules that importing it loads, measured in a fresh interpreter:
nothing is imported late (DESIGN.md, rule 4), so nothing else can be needed. PyInstaller would
follow every import statement it sees, and bring along some hundred modules more. Those in Python
are in its libpython (frozen.py), so PyInstaller's own importers are not needed either.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from cffi_build import project

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
    """What a spec file is told; it travels to PyInstaller's process in the environment.

    `spec` is that file's path in the project, if it is not cffi_build/NAME.spec; `entry` the script
    that is frozen, if it is not cffi_build/entry_NAME.py; `options` are further ones for the
    interpreter.
    """

    name: str
    bootloader: str
    root: str = str(project.ROOT)
    spec: str = ""
    entry: str = ""
    options: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()  # everything that may go in; empty: all that PyInstaller finds
    payload: str = ""  # folder that a one-file executable carries along
    inner: str = ""  # bootloader that it carries along, since its own cannot load Python

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
        command += [str(project.ROOT / (self.spec or f"cffi_build/{self.name}.spec"))]
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
