"""The programs in the system-shutdown folder of the simulated machine's old root."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tests.sim.faults import HangError

if TYPE_CHECKING:
    from tests.sim.machine import Machine

FOLDER = "/oldroot/usr/lib/systemd/system-shutdown"


class Run(NamedTuple):
    """What there was when the programs began to run: mounts, devices, swap areas, and whether root
    was read-only."""

    verb: str
    seconds: float
    mounts: tuple[str, ...]
    devices: tuple[str, ...]
    swaps: tuple[str, ...]
    root_readonly: bool


class Hooks:
    """Part of `SimKernel`: what is run in the old root; `hook_runs` tells of each time."""

    machine: Machine
    hook_runs: list[Run]
    _enter: Callable[..., None]

    def hook_names(self, path: str) -> list[str] | None:
        """List the folder; None if the path is another one."""
        there = any(mount.target == "/oldroot" for mount in self.machine.mounts)
        return list(self.machine.hooks) if path == FOLDER and there else None

    def run_hooks(self, verb: str, seconds: float) -> list[str]:
        """They hold root until all have ended, or for ever where nothing can end them."""
        machine = self.machine
        root = next(mount for mount in machine.mounts if mount.target == "/oldroot")
        if self.hook_runs:
            return ["they have been run before"]
        self.hook_runs.append(
            Run(
                verb,
                seconds,
                tuple(mount.target for mount in machine.mounts[4:]),
                tuple(device.name for device in machine.devices.values()),
                tuple(swap.path for swap in machine.swaps),
                root.readonly,
            )
        )
        try:
            self._enter("run_hooks", verb, min(seconds, machine.hook_seconds))
        except HangError:
            root.busy = True
            raise
        late = machine.hook_seconds > seconds
        said = [f"{name} took too long, and is ended" for name in machine.hooks if late]
        return [*said, f"ran {len(machine.hooks)}"]
