"""What a phase has to say, as a value."""

from __future__ import annotations

from finalstage.value import Value


class Line(Value):
    """One line of a report; `bad` if it must be seen even if all else is quiet."""

    words: str
    bad: bool = False
