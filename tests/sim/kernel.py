"""The simulated kernel: the real one's rules on a `Machine`, a virtual clock, and faults.

A fault is keyed by the operation and its object (``("umount", "/oldroot")``) or by the operation
alone, and is an exception to raise, seconds that it takes, or `HANG`. Time passes only in waiting
and in calls. What is special to a kind of layer is in `tests.sim.kinds`, what another kernel may
not have in `tests.sim.lacking`.
"""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from finalstage.kernel import Call, DmStatus, Stat
from tests.sim.faults import HANG, BlockedError, HangError, error
from tests.sim.hooks import Hooks, MomentRun, Run
from tests.sim.kind import Kind
from tests.sim.kinds import ENTRIES, KINDS, owner
from tests.sim.kinds.mount import Mount, Unseen
from tests.sim.machine import Device, Machine, Thing
from tests.sim.processes import Processes
from tests.sim.secrets import Secrets

if TYPE_CHECKING:
    from tests.sim.lacking import Lack

__all__ = ["HANG", "BlockedError", "HangError", "SimKernel"]

FOREVER = float("inf")
PID = 50
BY_CLASS, BY_NAME, BY_NUMBER = "/sys/class/block/", "/sys/block/", "/sys/dev/block/"


class Blocked(NamedTuple):
    """A call that waits: what it does, the device that it has asked, whether it has that open, and
    what does not answer."""

    function: Callable[[], object]
    asked: str
    opens: bool
    below: list[Device]


class Lost(NamedTuple):
    """What a thing had to write, and why it will never be written."""

    key: str
    why: str


class SimKernel(Hooks, Secrets, Processes):
    """A `Kernel` on a simulated machine. `said` is the console, `done` what was called, `struck`
    which calls met with a fault, `missed` which asked for something that is lacking; `down` how the
    machine ended and `down_at` when.

    `stuck` is the operation that the stage waits for by itself, and for ever: it goes on no more.
    `lost` is what had something to write that will never be written.
    `violations` are things that nobody should do, though the kernel lets them: to close what
    something stands on, to take away a disk that answers.
    """

    pid = PID

    def __init__(
        self,
        machine: Machine,
        faults: Mapping[Any, object] | None = None,
        lacks: Sequence[Lack] = (),
    ) -> None:
        self.machine = machine
        self.faults = faults or {}
        self.lacks = lacks
        self.said: list[str] = []
        self.records: list[str] = []
        self.told: list[str] = []
        self.done: list[tuple[str, str]] = []
        self.struck: list[tuple[str, str]] = []
        self.missed: list[tuple[str, str]] = []
        self.lost: list[Lost] = []
        self.violations: list[str] = []
        self.hook_runs: list[Run] = []
        self.moment_runs: list[MomentRun] = []
        self.stuck = ""
        self.down = ""
        self.down_at = FOREVER
        self.argument = ""
        self._names = {device.name: device for device in machine.devices.values()}
        self._clock = 0.0
        self._cost = 0.0
        self._running = 0
        self._finish: dict[Call, float] = {}
        self._results: dict[Call, tuple[object, BaseException | None]] = {}
        self._blocked: dict[Call, Blocked] = {}

    # Faults and time

    def _enter(self, operation: str, name: str, cost: float = 0.001) -> None:
        if HangError.hanging and (self._running or self.stuck):
            raise HangError.hanging
        HangError.hanging = None
        self._cost += cost
        for lack in self.lacks:
            if lack.covers(operation, name):
                self.missed.append((operation, name))
                raise lack.refuse(name)
        if self.faults:
            self._meet(operation, name)
        self.done.append((operation, name))

    def _meet(self, operation: str, name: str) -> None:
        """Let a call meet its fault."""
        fault = self.faults.get((operation, name), self.faults.get(operation))
        if fault is None:
            return
        self.struck.append((operation, name))
        if fault is HANG:
            if not self._running:
                self.stuck = operation
            raise HangError
        if isinstance(fault, BaseException):
            raise type(fault)(*fault.args)
        assert isinstance(fault, float)
        self._cost += fault

    def now(self) -> float:
        return self._clock

    def sleep(self, seconds: float) -> None:
        self._clock += seconds

    def start(self, name: str, function: Callable[[], object]) -> Call:
        call = Call(name)
        call.started = self._clock
        self._run(call, function)
        return call

    def _run(self, call: Call, function: Callable[[], object]) -> None:
        started, self._cost = self._clock, 0.0
        self._running += 1
        value: object = None
        failure: BaseException | None = None
        try:
            value = function()
        except BlockedError as blocked:
            self._cost = FOREVER
            itself = self.machine.devices.get(blocked.device) if blocked.suspends else None
            below = [
                lower
                for lower in self.machine.reaches(blocked.device)
                if lower.waits() and lower is not itself
            ]
            rest = blocked.rest or function
            self._blocked[call] = Blocked(rest, blocked.device, blocked.opens, below)
        except HangError:
            self._cost = FOREVER
        except BaseException as problem:
            failure = problem
        self._running -= 1
        HangError.hanging = None
        self._results[call] = (value, failure)
        self._finish[call] = self._clock + self._cost
        self._cost = 0.0  # what follows outside of a call costs nothing yet
        self._clock = started  # whoever has started it goes on meanwhile

    def let_go(self) -> None:
        """Have what is blocked go on, where all that it waits for has let go or is gone. What is
        in flight to a dead disk stays so, even if an array above goes on without that."""
        cost, devices = self._cost, self.machine.devices
        for call, blocked in list(self._blocked.items()):
            waits = any(x.waits() and x.device in devices for x in blocked.below)
            if call in self._blocked and not waits:  # one before may have had it go on
                del self._blocked[call]
                self._run(call, blocked.function)
        self._cost = cost

    def in_flight(self, device: Device) -> bool:
        """Whether a device has passed something down that will not come back: a dead disk below
        has something from everybody, what is suspended only what it was asked for."""
        below = self.machine.paths(device)
        if any(lower.dead for lower in below):
            return True
        return any(
            device in self.machine.reaches(blocked.asked)
            for blocked in self._blocked.values()
            if any(x.waits() and x is not device and x in below for x in blocked.below)
        )

    def wait(self, calls: Iterable[Call], timeout: float) -> list[Call]:
        waiting = [call for call in calls if call in self._finish]  # others are still at work
        first = min((self._finish[call] for call in waiting), default=FOREVER)
        until = self._clock + max(timeout, 0.0)
        self._clock = max(self._clock, min(first, until))
        done = [call for call in waiting if self._finish[call] <= self._clock]
        for call in done:
            call.done = True
            call.value, call.error = self._results[call]
            call.finished = self._finish[call]
        return done

    # Files

    def read(self, path: str) -> bytes:
        self._enter("read", path, 0.0)
        if self.machine.efi_mounted and path in self.machine.efi:
            return self.machine.efi[path]
        return self._text(path).encode("utf-8", "surrogateescape")

    def _text(self, path: str) -> str:
        device, name = self.block(path)
        kind = self._kind(path, device, name)
        if device and not kind:
            return device.read(self, name) + "\n"
        if kind:
            return kind.read(self, path) + "\n"
        machine = self.machine
        if path in machine.settings:
            return machine.settings[path] + "\n"
        if path == "/proc/cmdline":
            return machine.command_line + "\n"
        if path == "/proc/meminfo":
            return f"MemAvailable: {machine.available} kB\nDirty: 2048 kB\nWriteback: 0 kB\n"
        if path == "/sys/kernel/kexec_loaded":
            return f"{int(machine.kexec_loaded)}\n"
        if path == "/oldroot/run/systemd/reboot-param" and machine.reboot_parameter:
            return machine.reboot_parameter + "\n"
        found = self.key_text(path)
        if found is None:
            found = self.process_text(path)
        if found is None:
            raise error(errno.ENOENT, path)
        return found

    def write(self, path: str, data: bytes) -> None:
        self._enter("write", path)
        machine = self.machine
        device, name = self.block(path)
        kind = self._kind(path, device, name)
        if device and not kind:
            device.write(self, name, data)
            return
        if kind:
            kind.write(self, path, data)
            return
        if path in machine.immutable:
            raise error(errno.EPERM, path)
        if path in machine.settings:
            machine.settings[path] = data.decode()
        elif path in machine.efi:
            self.set_variable(path, data)
        elif path == "/proc/sysrq-trigger":
            if data == b"u":
                self._emergency_remount()
            else:
                self._go_down({b"o": "poweroff", b"b": "reboot"}[data])
        elif not self.write_process(path, data):
            raise error(errno.ENOENT, path)

    def listdir(self, path: str) -> list[str]:
        self._enter("listdir", path, 0.0)
        names = self._names_in(path)
        for lack in self.lacks:
            names = [name for name in names if not lack.hides(f"{path}/{name}")]
        return names

    def _names_in(self, path: str) -> list[str]:
        machine = self.machine
        if path + "/" in (BY_CLASS, BY_NAME):
            return [device.name for device in machine.devices.values() if not device.gone]
        device, name = self.block(path)
        kind = self._kind(path, device, name)
        if device and not kind:
            return device.listdir(self, name) + ([] if name else self._entries(device))
        if kind:
            return kind.listdir(self, path)
        if path == "/sys/firmware/efi/efivars" and (machine.efi or machine.efi_mounted):
            return [name.split("/")[-1] for name in machine.efi] if machine.efi_mounted else []
        names = self.hook_names(path)
        if names is None:
            names = self.file_names(path)
        if names is None:
            names = self.process_names(path)
        if names is None:
            raise error(errno.ENOENT, path)
        return names

    def readlink(self, path: str) -> str:
        self._enter("readlink", path, 0.0)
        if path.endswith("/ns/mnt"):
            return "mnt:[1]"
        device, name = self.block(path)
        kind = self._kind(path, device, name)
        if device and not kind:
            return device.readlink(self, name)
        if kind:
            return kind.readlink(self, path)
        found = self.process_link(path)
        if found is None:
            raise error(errno.ENOENT, path)
        return found

    def stat(self, path: str) -> Stat:
        self._enter("stat", path)
        found = self.file_stat(path) or self.process_stat(path) or self._node_stat(path)
        for kind in KINDS:
            found = found or kind.stat(self, path)
        if not found:
            raise error(errno.ENOENT, path)
        return found

    def _node_stat(self, path: str) -> Stat | None:
        """Describe the node of a block device by its kernel name."""
        device = self._names.get(path.removeprefix("/dev/"))
        return Stat(modes.S_IFBLK, "0:6", 1, device.device, 0) if device else None

    def block(self, path: str) -> tuple[Device | None, str]:
        """Return the device to whose directory a path belongs, and the rest of the path."""
        if path.startswith(BY_CLASS):
            name, _, rest = path[len(BY_CLASS) :].partition("/")
            return self.device_named(name), rest
        if path.startswith(BY_NUMBER):
            number, _, rest = path[len(BY_NUMBER) :].partition("/")
            device = self.machine.devices.get(number)
            if device is None or device.gone:
                raise error(errno.ENOENT, path)
            return device, rest
        if path.startswith(BY_NAME):
            name, _, rest = path[len(BY_NAME) :].partition("/")
            return self.device_named(name), rest
        return None, ""

    def _kind(self, path: str, device: Device | None, name: str) -> Kind | None:
        """Return the kind that answers for a path in place of the device to which it belongs."""
        if not device:
            return owner(path)
        kind = ENTRIES.get(name.partition("/")[0])
        return kind if kind and kind.has_entry(self.machine, device) else None

    def _entries(self, device: Device) -> list[str]:
        """Return what kinds add to the directory of a device."""
        return [e for e, kind in ENTRIES.items() if kind.has_entry(self.machine, device)]

    def device_named(self, name: str) -> Device:
        """Return a device by its kernel name."""
        device = self._names.get(name)
        if device is None or device.gone or device.device not in self.machine.devices:
            raise error(errno.ENOENT, name)
        return device

    # Mounts and swap

    def _mount_at(self, target: str) -> Mount:
        """Return the mount that is found there. EINVAL if it is not the root of one."""
        found = self.machine.resolve(target)
        if found.target != target:
            raise error(errno.EINVAL, target)
        return found

    def umount(self, target: str, detach: bool = False, force: bool = False) -> None:
        self._enter("give_up" if force else "umount", target)
        self._mount_at(target).umount(self, detach, force)

    def move_mount(self, target: str, place: str, parent: str) -> None:
        self._enter("move_mount", target)
        self._mount_at(target).move(self.machine, place)

    def remount(self, target: str, options: str, readonly: bool = False, data: str = "") -> None:
        self._enter("remount", target)
        self._mount_at(target).remount(self, readonly, data)

    def freeze(self, target: str) -> None:
        self._enter("freeze", target)
        self._mount_at(target).freeze(self)

    def thaw(self, target: str) -> None:
        self._enter("thaw", target)
        self._mount_at(target).thaw(self)

    def syncfs(self, target: str) -> None:
        self._enter("syncfs", target)
        self._mount_at(target).syncfs(self)

    def swapoff(self, path: str, device: str = "") -> None:
        self._enter("swapoff", path)
        for swap in self.machine.swaps:
            if (device and swap.device == device) or (not device and swap.path == path):
                swap.swapoff(self)
                return
        raise error(errno.EINVAL, path)

    def sync(self) -> None:
        self._enter("sync", "")
        blocked: HangError | None = None
        for thing in (*self.machine.mounts, *self.machine.others):
            try:
                if isinstance(thing, Mount | Unseen):
                    thing.write_back(self)
                    for device in self.machine.paths(thing):  # ext4_sync_fs() flushes them
                        device.dirty = False
            except HangError as failure:  # all are told to write before any is waited for
                blocked = failure
        if blocked:
            raise blocked

    # Block devices: what is done to one is the method of the same name of its kind.

    def _ask(self, operation: str, device: str, *arguments: object, cost: float = 0.001) -> Any:
        self._enter(operation, device, cost)
        found = self.machine.devices.get(device)
        if found is None or found.gone:
            for kind in KINDS:
                if kind.stands_in(operation, device):
                    return None
            raise error(errno.ENXIO, device)
        method = getattr(found, operation, None)
        if method is None:
            raise error(errno.ENXIO if operation.startswith("dm_") else errno.ENOTTY, device)
        return method(self, *arguments)

    def refuse_while_held(self, thing: Thing) -> None:
        """EBUSY while anything holds a thing, a call that does not come back among them."""
        opened = any(call.opens and call.asked == thing.key for call in self._blocked.values())
        if opened or self.machine.holders(thing.key):
            raise error(errno.EBUSY, thing.key)

    def close(self, device: Device) -> None:
        """Close a device for one of its methods: EBUSY while anything holds it."""
        self.refuse_while_held(device)
        for other in self.machine.devices.values():
            goes = other is device or (other.transparent and device.key in other.below)
            if goes and other.unsaved():
                self.lose(other, "closed before it was flushed")
        self.machine.remove(device)

    def lose(self, thing: Thing, why: str) -> None:
        """Take in that what a thing had to write will never be written."""
        self.lost.append(Lost(thing.key, f"{thing.label}: {why}"))

    def bury(self, device: Device) -> None:
        """Take in that nothing gets past a device any more: what had still to be written, and has
        no other way, is lost."""
        machine, failing = self.machine, device.failing
        device.failing = True
        for thing in machine.things():
            if thing.unsaved() and device in machine.paths(thing):
                below = [thing.key] if isinstance(thing, Device) else thing.rests_on(machine)
                if any(machine.fails(lower) for lower in below):
                    self.lose(thing, f"not written before {device.label} was wiped")
        device.failing = failing

    def flush(self, device: str, alone: bool = False) -> None:
        if alone and self.machine.holders(device):
            raise error(errno.EBUSY, device)
        self._ask("flush", device)

    def read_device(self, device: str, size: int) -> bytes:
        self._open_alone("read_device", device)
        return self.machine.contents.get(device, b"").ljust(size, b"\0")[:size]

    def write_device(self, device: str, data: bytes) -> None:
        self._open_alone("write_device", device)
        before = self.machine.contents.get(device, b"")
        self.machine.contents[device] = data + before[len(data) :]
        self._ask("flush", device)

    def _open_alone(self, operation: str, device: str) -> None:
        self._enter(operation, device)
        if device not in self.machine.devices:
            raise error(errno.ENXIO, device)
        if self.machine.holders(device):
            raise error(errno.EBUSY, device)
        if self.machine.blocked(device):
            raise BlockedError(device, opens=True)

    def stop_array(self, device: str) -> None:
        if self.machine.holders(device):  # it is opened alone, whatever it is
            raise error(errno.EBUSY, device)
        self._ask("stop_array", device)

    def detach_loop(self, device: str) -> None:
        self._ask("detach_loop", device)

    def clear_nbd(self, device: str, disconnect: bool = False) -> None:
        self._ask("clear_nbd", device, disconnect)

    def reset_scsi(self, device: str, offline: bool = False) -> None:
        self._ask("reset_scsi", device, offline)

    def pci_hide(self, config: str) -> None:
        self._enter("pci_hide", config)

    def dm_status(self, device: str) -> DmStatus:
        status = self._ask("dm_status", device, cost=0.0)
        assert isinstance(status, DmStatus)
        return status

    def dm_info(self, device: str) -> DmStatus:
        return self._ask("dm_info", device, cost=0.0)  # type: ignore[no-any-return]

    def dm_remove(self, device: str) -> None:
        self._ask("dm_remove", device)

    def dm_clear(self, device: str) -> None:
        self._ask("dm_clear", device)

    def dm_suspend(self, device: str, lockfs: bool, flush: bool) -> None:
        self._ask("dm_suspend", device, lockfs, flush)

    def dm_load_error(self, device: str, sectors: int) -> None:
        self._ask("dm_load_error", device, sectors)

    def dm_resume(self, device: str) -> None:
        self._ask("dm_resume", device)

    def dm_message(self, device: str, sector: int, message: str) -> None:
        self._ask("dm_message", device, sector, message)

    # Messages, the end

    def console(self, data: bytes) -> None:
        if not self.down:
            self.said.append(data.decode())

    def drain_console(self) -> None:
        self._enter("drain_console", "")

    def log(self, data: bytes) -> None:
        self.records.append(data.decode())

    def tell_guardian(self, line: str) -> None:
        self.told.append(line)

    def lock_memory(self) -> None:
        self._enter("lock_memory", "")

    def reboot(self, command: str, argument: str = "") -> None:
        self._enter("reboot", command)
        self.argument = argument
        self._go_down(command)
        raise HangError  # it never returns

    def _emergency_remount(self) -> None:
        """Turn all file systems on devices read-only, whoever writes to them."""
        for mount in self.machine.mounts:
            if mount.device in self.machine.devices:
                mount.write_back(self)
                mount.readonly = True

    def _go_down(self, how: str) -> None:
        at = self._clock + self._cost
        if at < self.down_at:
            self.down, self.down_at = how, at
