"""For all tests: the table of all machines that went down, at the end of a whole session; and locks
of LVM that are no test's beside it, nor this machine's."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import pytest

from finalstage.cli.close import lvm
from tests.vm.table import pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_terminal_summary"]


def pytest_configure(config: pytest.Config) -> None:
    """Have LVM's locks in a folder of this process: sessions run side by side, and a module of
    tests that closes a machine to know its steps does so before any fixture."""
    folder = TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    lvm.LOCKS = folder.name
