"""What a verb is asked for, as opposed to what it has to say about what it does."""

from __future__ import annotations


class Output(str):
    """Text that is printed as it is: a table, a tree, JSON. A newline follows."""

    __slots__ = ()


class Trouble(str):
    """A line about what is not as it should be, for stderr."""

    __slots__ = ()
