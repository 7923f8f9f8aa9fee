"""For all tests: the table of all machines that went down, at the end of a whole session; and locks
of LVM that are no test's beside it, nor this machine's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finalstage.cli.close import lvm
from tests.vm.table import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have LVM's locks in a folder of this process: sessions run side by side."""
    usual, lvm.LOCKS = lvm.LOCKS, str(tmp_path_factory.mktemp("lvm"))
    yield
    lvm.LOCKS = usual
