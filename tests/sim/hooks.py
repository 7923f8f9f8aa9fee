"""The programs in the system-shutdown folder of the simulated machine's old root, and those of the
administrator, which its tree carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tests.sim.faults import HangError

if TYPE_CHECKING:
    from tests.sim.machine import Machine

OF_MOMENTS = "/etc/finalstage/hooks"
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


class MomentRun(NamedTuple):
    """What there was when those of a moment began to run: mounts, devices, processes and keys."""

    moment: str
    verb: str
    seconds: float
    each: float
    facts: dict[str, str]
    mounts: tuple[str, ...]
    devices: tuple[str, ...]
    processes: int
    keys: int
    at: float


class Hooks:
    """Part of `SimKernel`: what is run in the old root, and at moments; `hook_runs` and
    `moment_runs` tell of each time."""

    machine: Machine
    hook_runs: list[Run]
    moment_runs: list[MomentRun]
    _enter: Callable[..., None]
    now: Callable[[], float]

    def hook_names(self, path: str) -> list[str] | None:
        """List a folder; None if the path is another one."""
        folder, _, moment = path.rpartition("/")
        if folder == OF_MOMENTS and moment in self.machine.moments:
            return list(self.machine.moments[moment])
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

    def run_moment(
        self, moment: str, verb: str, seconds: float, each: float, facts: Mapping[str, str]
    ) -> list[str]:
        """They hold nothing, also where nothing can end them."""
        machine = self.machine
        if any(run.moment == moment for run in self.moment_runs):
            return ["they have been run before"]
        self.moment_runs.append(
            MomentRun(
                *(moment, verb, seconds, each, dict(facts)),
                tuple(mount.target for mount in machine.mounts[4:]),
                tuple(device.name for device in machine.devices.values()),
                len(machine.processes),
                sum(len(keys) for keys in machine.keyrings.values()),
                self.now(),
            )
        )
        said, took, ran = [], 0.0, 0
        for name, lasts in machine.moments[moment].items():
            patience = min(each, seconds - took)
            if patience <= 0:
                said.append(f"{name} was not run: no time is left")
                continue
            ran += 1
            took += min(lasts, patience)
            if lasts > patience:
                said.append(f"{name} took too long, and is ended")
        self._enter("run_moment", moment, took)
        return [*said, f"ran {ran}"]
