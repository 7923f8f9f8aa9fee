"""A command as on a kernel that has fewer system calls: tests/vm/tools/older.c."""

from __future__ import annotations

from pathlib import Path

from tests.vm.tools import tool


def older(folder: Path, first_missing: int) -> tuple[str, str]:
    """Return what to put before a command. The program that does it is put into a folder."""
    program = folder / "older"
    program.write_bytes(tool("older"))
    program.chmod(0o755)
    return str(program), str(first_missing)
