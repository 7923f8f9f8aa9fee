"""What can happen to a machine from outside while it goes down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.vm.machine import Machine


@dataclass(frozen=True)
class Fault:
    """`strike` is done to the machine once `after` stands on its console.

    With an empty `after` it is done just before the hand-over.
    """

    strike: Callable[[Machine], Awaitable[None]]
    after: bytes = b""


def freeze(disk: str, after: bytes = b"") -> Fault:
    """From then on the disk accepts requests and, after the first, answers none."""
    return _limit(disk, {"bps-total": 1}, after)


def thaw(disk: str, after: bytes) -> Fault:
    """Let a frozen disk answer again."""
    return _limit(disk, {}, after)


def _limit(disk: str, limits: dict[str, int], after: bytes) -> Fault:
    async def strike(machine: Machine) -> None:
        group = f"/objects/throttle-{disk}"
        await machine.qmp("qom-set", path=group, property="limits", value=limits)

    return Fault(strike, after)


def break_(disk: str, after: bytes = b"") -> Fault:
    """From then on the disk answers everything with an error."""

    async def strike(machine: Machine) -> None:
        access = {"read-only": False, "discard": "unmap", "cache": {"no-flush": True}}
        rule = {"event": "none", "errno": 5, "once": False, "immediately": True}
        broken = {"driver": "blkdebug", "node-name": f"broken-{disk}", "image": f"image-{disk}"}
        await machine.qmp("blockdev-add", **broken, **access, **{"inject-error": [rule]})
        filter = {"driver": "throttle", "node-name": disk, "throttle-group": f"throttle-{disk}"}
        reopened = {**filter, **access, "file": f"broken-{disk}"}
        await machine.qmp("blockdev-reopen", options=[reopened])

    return Fault(strike, after)


def unplug(disk: str, after: bytes = b"") -> Fault:
    """Ask the guest to let go of a disk, as pulling it does on a bus that allows that."""

    async def strike(machine: Machine) -> None:
        await machine.qmp("device_del", id=f"disk-{disk}")

    return Fault(strike, after)
