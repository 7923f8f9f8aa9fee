"""Folders that come with the program: inside of the frozen one, or in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def folder(name: str, in_checkout: str) -> Path:
    """Return one of them by its name in the frozen program (cffi_build/finalstage.spec), or where
    it lies in a checkout."""
    frozen = getattr(sys, "_MEIPASS", None)
    return Path(frozen, name) if frozen is not None else CHECKOUT / in_checkout


def schema(name: str) -> str:
    """Return the text of a schema of JSON that a verb prints, by its file's name."""
    place = folder("schemas", "finalstage/schemas") / name
    return place.read_text(encoding="utf-8").rstrip("\n")
