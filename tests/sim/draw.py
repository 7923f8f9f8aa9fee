"""Draws machines of any shape, and faults for them; `number` draws from 0 to its argument."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from finalstage import moments
from tests.sim.builder import OWN_MOUNTS, Builder
from tests.sim.faults import HANG
from tests.sim.kinds import KINDS
from tests.sim.kinds.container import Container
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine, Process
from tests.sim.stacks import bare_machine

MOST_LAYERS = 60

ON_DEVICES = (
    "flush dm_remove dm_suspend dm_resume dm_message dm_load_error dm_clear dm_status stop_array"
    " detach_loop reset_scsi clear_nbd".split()
)
ON_MOUNTS = "umount give_up move_mount remount freeze thaw syncfs".split()
ANYWHERE = (
    *ON_DEVICES,
    *ON_MOUNTS,
    *"swapoff sync read write listdir readlink stat kill reboot lock_memory drain_console".split(),
    *"clear_keyrings wait_for_rcu scrub_memory mount_api encryption_key revoke_key".split(),
    *("run_hooks", "run_moment"),
)
"""Operations that may fail, those on devices and mounts also on a single one."""

AT_ONCE = ("dm_status", "kill", "lock_memory", "read", "write")
"""Those that wait for nobody, at least not all of them: the stage makes some of these itself, and
crypt_status() and dm_integrity_status() return at once."""

ERRORS = (errno.EIO, errno.EBUSY, errno.EINVAL, errno.ENOMEM, errno.ENODEV, errno.EPERM)
DELAYS = (0.5, 5.0, 60.0)


def machine_from(number: Callable[[int], int]) -> Machine:
    """Draw a machine, a small one mostly; every second one has troubles."""
    machine = bare_machine()
    builder = Builder(number, machine)
    for _ in range(number(MOST_LAYERS if number(3) == 0 else MOST_LAYERS // 3)):
        KINDS[number(len(KINDS) - 1)].draw(builder)
    in_use = {
        device.key
        for thing in machine.things()
        if not (isinstance(thing, Disk) or thing.transparent)
        for device in machine.paths(thing)
    }
    for device in machine.devices.values():
        device.dirty = device.key in in_use
    machine.foreign_init = number(5) == 0
    if number(1):
        for kind in KINDS:
            kind.trouble(builder)
        for pid in range(100, 100 + max(0, number(8) - 6)):
            held = tuple(m.device for m in machine.mounts[OWN_MOUNTS:] if number(3) == 0)
            machine.processes[pid] = Process(
                pid, ignores_term=True, immortal=number(3) == 0, holds=held
            )
    return machine


def with_hooks(number: Callable[[int], int], machine: Machine) -> Machine:
    """Add an old root with programs for systemd-shutdown to run, which we stand in for, and add
    programs for some moments."""
    free = [
        key
        for key, device in machine.devices.items()
        if not (isinstance(device, Container) or machine.holders(key))
    ]
    if not free:
        free = ["8:200"]
        machine.devices[free[0]] = Disk("vd200", free[0])
    machine.mounts += [
        Mount(90, 1, "/oldroot", free[number(len(free) - 1)]),
        Mount(91, 90, "/oldroot/run", "0:33", "tmpfs"),
    ]
    machine.hooks = ("some",)
    machine.hook_seconds = (0.1, 0.1, 1000.0)[number(2)]
    machine.moments = {
        moment: {"some": (0.1, 0.1, 1000.0)[number(2)]} for moment in moments.ALL if number(2)
    }
    return machine


def faults_from(number: Callable[[int], int], machine: Machine) -> dict[object, object]:
    """Draw up to three faults: of calls on one thing, or of all calls of a kind."""
    found: dict[object, object] = {}
    devices = list(machine.devices.values())
    mounts = machine.mounts[OWN_MOUNTS:]
    for _ in range(number(3)):
        where = number(9)
        name = ""
        if where < 4 and devices:
            device = devices[number(len(devices) - 1)]
            known = [each for each in ON_DEVICES if hasattr(device, each)]
            operation, name = known[number(len(known) - 1)], device.device
        elif where < 6 and mounts:
            operation = ON_MOUNTS[number(len(ON_MOUNTS) - 1)]
            name = mounts[number(len(mounts) - 1)].target
        elif where < 7 and devices:
            name = f"/sys/class/block/{devices[number(len(devices) - 1)].name}"
            operation = ("listdir", "read")[number(1)]
            name += "/dev" if operation == "read" else ""
        else:
            operation = ANYWHERE[number(len(ANYWHERE) - 1)]
        fault = fault_from(number)
        waits = not isinstance(fault, BaseException)
        if waits and (operation == "dm_status" or (not name and operation in AT_ONCE)):
            fault = DELAYS[0]
        found[(operation, name) if name else operation] = fault
    return found


def fault_from(number: Callable[[int], int]) -> object:
    """Draw what goes wrong: an error, an exception, a delay, or a call that never returns."""
    what = number(5)
    if what < 2:
        code = ERRORS[number(len(ERRORS) - 1)]
        return OSError(code, os.strerror(code))
    if what == 2:
        return (MemoryError(), RuntimeError("a fault on purpose"))[number(1)]
    return HANG if what < 5 else DELAYS[number(len(DELAYS) - 1)]
