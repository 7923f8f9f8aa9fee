"""The table of all machines that went down, at the end of a whole test session."""

from tests.vm.table import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
