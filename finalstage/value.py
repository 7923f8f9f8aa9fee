"""Immutable values, as small as they get.

``dataclasses`` would do, but brings ``inspect`` and with it some thirty modules into the PID 1
tree, and their import time with them. Type checkers see dataclasses all the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, dataclass_transform
else:

    def dataclass_transform(**_options):
        """Tell type checkers what `Value` does; nothing at run time."""
        return lambda cls: cls


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
        values = {**self.__defaults__, **dict(zip(self.__fields__, args, strict=False)), **named}
        if len(args) > len(self.__fields__) or values.keys() != self.__names__:
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.__fields__)}")
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__[name] for name in self.__fields__))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.__fields__)
        return f"{type(self).__name__}({fields})"

    def but(self, **changes: Any) -> Any:
        """Return a copy with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})
