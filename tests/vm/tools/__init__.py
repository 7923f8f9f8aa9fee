"""Small static programs of ours that guests run."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm.cache import digest, once

_HERE = Path(__file__).resolve().parent
# musl's headers first; beside them the kernel's alone are of use, and there is nothing they clash
# with as long as they come last.
_HEADERS = ("-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu")
_FLAGS = ("-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-s", *_HEADERS)


def tool(name: str) -> bytes:
    """The program that NAME.c is compiled to."""
    source = _HERE / f"{name}.c"

    def build(folder: Path) -> None:
        subprocess.run(("musl-gcc", *_FLAGS, "-o", folder / name, source), check=True)

    return (once(f"tool-{name}-{digest(source, _FLAGS)}", build) / name).read_bytes()
