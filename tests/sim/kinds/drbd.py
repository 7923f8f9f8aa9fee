"""DRBD devices. Source: drivers/block/drbd/drbd_nl.c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tests.sim.kind import Kind
from tests.sim.machine import Device


@dataclass
class Drbd(Device):
    """One on the device below, which it holds for good."""

    kind: ClassVar[str] = "drbd"


class DrbdKind(Kind):
    """DRBD devices. None is drawn: there is no way to close one."""

    name = "drbd"
