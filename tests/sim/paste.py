"""A machine and its faults as the source of a test, to paste."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from finalstage.value import Value
from tests.sim.faults import HANG
from tests.sim.machine import Machine
from tests.sim.properties import complaints

TEMPLATE = """
{imports}


def pasted() -> tuple[Machine, dict[Any, object]]:
    machine = Machine(
{machine}
    )
    return machine, {faults}


def test_pasted() -> None:
    assert complaints(*pasted()) == []
"""


def as_test(machine: Machine, faults: Mapping[Any, object]) -> str:
    """Return the source of a module with a test that takes such a machine down."""
    used: dict[str, str] = {
        "Any": "typing",
        "Machine": Machine.__module__,
        "complaints": complaints.__module__,
    }
    parts = [f"        {name}={source(value, used)}," for name, value in set_fields(machine)]
    failing = source(dict(faults), used)
    imports = [f"from {module} import {name}" for name, module in used.items()]
    return TEMPLATE.format(
        imports="\n".join(sorted(imports)), machine="\n".join(parts), faults=failing
    )


def set_fields(value: Any) -> list[tuple[str, object]]:
    """Return the fields of a dataclass that are not as they are by default."""
    found = []
    for each in fields(value):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        if getattr(value, each.name) != default:
            found.append((each.name, getattr(value, each.name)))
    return found


def source(value: object, used: dict[str, str]) -> str:
    """Return an expression for a value; what it needs is noted in `used`."""
    if value is HANG:
        used["HANG"] = "tests.sim.faults"
        return "HANG"
    if isinstance(value, dict):
        pairs = [f"{source(key, used)}: {source(each, used)}" for key, each in value.items()]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, set):
        return "{" + ", ".join(source(each, used) for each in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(source(each, used) for each in value) + "]"
    if isinstance(value, tuple):
        return "(" + "".join(f"{source(each, used)}, " for each in value).rstrip() + ")"
    if isinstance(value, Value) or is_dataclass(value):
        name = type(value).__name__
        used[name] = type(value).__module__
        if isinstance(value, Value):
            return repr(value)
        return f"{name}({', '.join(f'{n}={source(v, used)}' for n, v in set_fields(value))})"
    return repr(value)
