"""Bytes and numbers of things, as people read them."""

from __future__ import annotations

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def shown(size: int | None) -> str:
    """Return a number of bytes with three digits or so, and its unit; "" of None."""
    if size is None:
        return ""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    digits = 1 if unit and value < 10 and value != int(value) else 0
    return f"{value:.{digits}f} {UNITS[unit]}"


def counted(count: int, noun: str, plural: str = "s") -> str:
    """Return a number of things."""
    return f"{count} {noun}{plural * (count != 1)}"
