"""Values: what dataclasses would do."""

import pytest

from finalstage.value import Value


class Point(Value):
    """Two fields."""

    x: int
    y: int = 2


class Named(Point):
    """One more."""

    name: str = "here"


def test_fields_and_defaults() -> None:
    assert Point(1) == Point(x=1, y=2) != Point(1, 3)
    assert Named(1, name="there").name == "there"
    assert hash(Point(1)) == hash(Point(1))
    assert repr(Named(1)) == "Named(x=1, y=2, name='here')"


def test_another_class_is_another_value() -> None:
    assert Point(1) != Named(1)


@pytest.mark.parametrize(("args", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 3})])
def test_wrong_fields(args: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point takes x, y"):
        Point(*args, **named)


def test_immutable() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    assert point.but(x=5) == Point(5)
