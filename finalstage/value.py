"""Immutable values, as small as they get.

``dataclasses`` would do, but brings ``inspect`` and with it some thirty modules into the PID 1
tree, and their import time with them. Type checkers see dataclasses all the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, dataclass_transform

    derived = property
else:

    def dataclass_transform(**_options):
        """Tell type checkers what `Value` does; nothing at run time."""
        return lambda cls: cls

    class derived:
        """A property of a value that is worked out once: its fields do not change either."""

        def __init__(self, work_out):
            self.work_out = work_out

        def __set_name__(self, owner, name):
            self.name = name

        def __get__(self, value, owner=None):
            # From now on this is what is found first: nothing here sets, so it is no data
            # descriptor.
            found = value.__dict__[self.name] = self.work_out(value)
            return found


@dataclass_transform(frozen_default=True)
class Value:
    """Base of a value: fields are the annotated names, defaults what is assigned to them.

    Fields of a base class come first. Equality, hash and repr go by the fields' values.
    """

    __fields__: Any = ()
    __defaults__: Any = {}
    __names__: Any = frozenset()

    def __init_subclass__(cls) -> None:
        own = tuple(n for n in cls.__dict__.get("__annotations__", ()) if n not in cls.__fields__)
        cls.__fields__ = cls.__fields__ + own
        cls.__defaults__ = cls.__defaults__ | {n: cls.__dict__[n] for n in own if n in cls.__dict__}
        cls.__names__ = frozenset(cls.__fields__)

    def __init__(self, *args: Any, **named: Any) -> None:
        values = self.__dict__
        values.update(self.__defaults__)
        if args:
            values.update(zip(self.__fields__, args, strict=False))
        values.update(named)
        if len(args) > len(self.__fields__) or values.keys() != self.__names__:
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.__fields__)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def _values(self) -> tuple[Any, ...]:
        values = self.__dict__
        return tuple(values[name] for name in self.__fields__)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.__fields__)
        return f"{type(self).__name__}({fields})"

    def but(self, **changes: Any) -> Any:
        """Return a copy with some fields changed."""
        values = self.__dict__
        fields = {name: values[name] for name in self.__fields__}
        fields.update(changes)
        return type(self)(**fields)
