"""What a usual run leaves out, since all tests together have to take less than forty minutes.

What is left out differs from what is not by one thing that other rows try as well; or it has a root
file system of its own, whose building takes longer than ten rows. And most machines have one
processor. With FINALSTAGE_ALL in the environment nothing is left out, and they have two.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

whole = pytest.mark.seldom
"""Marks a whole test that is left out."""

ALL = "FINALSTAGE_ALL" in os.environ


def seldom(*items: T) -> tuple[T, ...]:
    """Return them if all was asked for, else none."""
    return items if ALL else ()


def in_turn(items: Sequence[T], first: int = 0, of: int = 2) -> Sequence[T]:
    """Return every second of them, or one of so many, from the `first` on; or all."""
    return items if ALL else items[first::of]
