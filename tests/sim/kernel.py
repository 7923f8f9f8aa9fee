"""The simulated kernel: the real one's rules on a `Machine`, a virtual clock, and faults.

A fault is keyed by the operation and its object (``("umount", "/oldroot")``) or by the operation
alone, and is an exception to raise, seconds that it takes, or `HANG`. Time passes only in waiting
and in calls.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from finalstage.kernel import Call, DmStatus, Stat, Target
from tests.sim.machine import Device, Machine, Mount
from tests.sim.secrets import Secrets


class Hang:
    """The fault that a call never comes back."""

    def __repr__(self) -> str:
        return "HANG"  # the same in every process that collects tests


HANG = Hang()
FOREVER = float("inf")
PID = 50


class HangError(BaseException):
    """The call never comes back."""


class BlockedError(HangError):
    """The call does not come back until the device that it waits for lets go."""


def error(code: int, name: str) -> OSError:
    """Return the kernel's error."""
    return OSError(code, os.strerror(code), name)


class SimKernel(Secrets):
    """A `Kernel` on a simulated machine. `said` is the console, `down` how the machine
    ended and `down_at` when."""

    pid = PID

    def __init__(self, machine: Machine, faults: Mapping[Any, object] | None = None) -> None:
        self.machine = machine
        self.faults = faults or {}
        self.said: list[str] = []
        self.records: list[str] = []
        self.told: list[str] = []
        self.done: list[tuple[str, str]] = []
        self.lost: list[str] = []
        self.down = ""
        self.down_at = FOREVER
        self.argument = ""
        self._clock = 0.0
        self._cost = 0.0
        self._finish: dict[Call, float] = {}
        self._blocked: dict[Call, Callable[[], object]] = {}

    # Faults and time

    def _enter(self, operation: str, name: str, cost: float = 0.001) -> None:
        self._cost += cost
        fault = self.faults.get((operation, name), self.faults.get(operation))
        if fault is HANG:
            raise HangError
        if isinstance(fault, BaseException):
            raise fault
        if isinstance(fault, float):
            self._cost += fault
        self.done.append((operation, name))

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
        self._cost = 0.0
        try:
            call.value = function()
        except BlockedError:
            self._cost = FOREVER
            self._blocked[call] = function
        except HangError:
            self._cost = FOREVER
        except BaseException as failure:
            call.error = failure
        self._finish[call] = self._clock + self._cost
        self._cost = 0.0  # what follows outside of a call costs nothing yet

    def _let_go(self) -> None:
        """Have what is blocked try again: something was taken away."""
        cost, blocked, self._blocked = self._cost, self._blocked, {}
        for call, function in blocked.items():
            self._run(call, function)
        self._cost = cost

    def wait(self, calls: Iterable[Call], timeout: float) -> list[Call]:
        waiting = list(calls)
        first = min((self._finish[call] for call in waiting), default=FOREVER)
        until = self._clock + max(timeout, 0.0)
        self._clock = max(self._clock, min(first, until))
        done = [call for call in waiting if self._finish[call] <= self._clock]
        for call in done:
            call.done = True
            call.finished = self._finish[call]
        return done

    # Files

    def read(self, path: str) -> bytes:
        self._enter("read", path, 0.0)
        if self.machine.efi_mounted and path in self.machine.efi:
            return self.machine.efi[path]
        return self._text(path).encode("utf-8", "surrogateescape")

    def write(self, path: str, data: bytes) -> None:
        self._enter("write", path)
        machine, parts = self.machine, path.split("/")
        if path.startswith("/sys/dev/block/") and parts[-1] == "delete":
            self._take_away(self._device(parts[4]))
        if path.startswith("/sys/dev/block/") and parts[-1] == "reset_controller":
            self._device(parts[4]).gone = True  # its driver finds it dead
            self._take_away(self._device(parts[4]))
        if path.startswith("/sys/dev/block/") and parts[-1] == "state" and data == b"faulty":
            self._member(parts, path)
        if path in machine.immutable:
            raise error(errno.EPERM, path)
        if path in machine.settings:
            machine.settings[path] = data.decode()
        if parts[-1] == "oom_score_adj" and int(parts[2]) in machine.processes:
            machine.processes[int(parts[2])].oom_score_adj = int(data)
        if path in machine.efi:
            machine.efi[path] = data
        if path == "/proc/sysrq-trigger":
            self._go_down({b"o": "poweroff", b"b": "reboot"}[data])

    def _text(self, path: str) -> str:
        machine = self.machine
        parts = path.split("/")
        if path == "/proc/self/mountinfo":
            return "".join(_mountinfo(mount) for mount in machine.mounts)
        if path == "/proc/swaps":
            rows = (f"{swap.path} partition 100 0 -2\n" for swap in machine.swaps)
            return "Filename Type Size Used Priority\n" + "".join(rows)
        if path == "/proc/cmdline":
            return machine.command_line + "\n"
        if path == "/proc/meminfo":
            return "Dirty: 2048 kB\nWriteback: 0 kB\n"
        if path.startswith("/sys/dev/block/"):
            found = self._member(parts, path)
            busy = found.busy and not any(other.dead for other in machine.devices.values())
            done = int(self._clock * 1000) if busy else 1
            return {
                "stat": f"1 0 8 0 {done} 0 8 0 0 0 0 0 0 0 0 1 0\n",
                "inflight": f"0 {int(found.dead or busy)}\n",
                "dev": found.device + "\n",
                "state": "faulty\n" if found.failing else "in_sync\n",
            }[parts[-1]]
        if path in machine.settings:
            return machine.settings[path] + "\n"
        keys = self.key_text(path)
        if keys is not None:
            return keys
        if path == "/sys/kernel/kexec_loaded":
            return f"{int(machine.kexec_loaded)}\n"
        if path == "/oldroot/run/systemd/reboot-param" and machine.reboot_parameter:
            return machine.reboot_parameter + "\n"
        if path.startswith("/proc/") and parts[2].isdigit():
            return self._process_text(int(parts[2]), parts[3])
        if path.startswith("/sys/class/block/"):
            return self._block_text(self._device_named(parts[4], path), "/".join(parts[5:]), path)
        raise error(errno.ENOENT, path)

    def _process_text(self, pid: int, name: str) -> str:
        process = self.machine.processes.get(pid)
        if process is None:
            raise error(errno.ESRCH, str(pid))
        flags = 0x00200000 if process.kernel_thread else 0
        texts = {
            "stat": f"{pid} ({process.name}) {process.state} {process.parent} 0 0 0 0 {flags} 0\n",
            "cmdline": process.argv0 + "\0",
            "mountinfo": self._text("/proc/self/mountinfo"),
            "maps": "",
            "oom_score_adj": f"{process.oom_score_adj}\n",
        }
        return texts[name]

    def _member(self, parts: list[str], path: str) -> Device:
        """Return the device that a path below /sys/dev/block is about, or a member of its."""
        if parts[5] == "slaves":
            return self._device_named(parts[6], path)
        if parts[5] == "md":
            return self._device_named(parts[6].removeprefix("dev-"), path)
        found = self._device(parts[4])
        if found.gone:
            raise error(errno.ENOENT, path)
        return found

    def _device_named(self, name: str, path: str) -> Device:
        for device in self.machine.devices.values():
            if device.name == name and not device.gone:
                return device
        raise error(errno.ENOENT, path)

    @staticmethod
    def _block_text(device: Device, name: str, path: str) -> str:
        texts = {"dev": device.device, "size": str(device.sectors)}
        if device.kind == "loop":
            texts["loop/backing_file"] = device.backing
        if device.kind == "md":
            texts |= {"md/array_state": "active", "md/level": device.level}
        if name not in texts:
            raise error(errno.ENOENT, path)
        return texts[name] + "\n"

    def listdir(self, path: str) -> list[str]:
        self._enter("listdir", path, 0.0)
        machine = self.machine
        parts = path.split("/")
        if path == "/proc":
            return ["self", *map(str, machine.processes)]
        if path == "/sys/class/block":
            return [device.name for device in machine.devices.values() if not device.gone]
        if path.startswith("/sys/class/block/"):
            device = self._device_named(parts[4], path)
            if parts[5:] == ["slaves"]:
                return [machine.devices[lower].name for lower in device.below]
            return ["dev", "size", "slaves", *([] if device.kind == "disk" else [device.kind])]
        if path.startswith("/sys/dev/block/") and parts[5:] in ([], ["device"]):
            found = self._device(parts[4])
            if found.gone:
                raise error(errno.ENOENT, path)
            if not parts[5:]:
                return ["dev", "stat", *(["device"] if found.kind == "disk" else [])]
            name = found.name
            entries = {"sd": ["state", "delete"], "nv": ["reset_controller"]}
            return entries.get(name[:2], ["model"])
        if path.startswith("/sys/dev/block/") and parts[5:] == ["slaves"]:
            return [machine.devices[lower].name for lower in self._device(parts[4]).below]
        if path == "/sys/firmware/efi/efivars" and (machine.efi or machine.efi_mounted):
            return [name.split("/")[-1] for name in machine.efi] if machine.efi_mounted else []
        names = self.file_names(path)
        if names is not None:
            return names
        if path.startswith("/proc/") and parts[3:] == ["fd"]:
            return [str(n) for n, _ in enumerate(machine.processes[int(parts[2])].holds)]
        raise error(errno.ENOENT, path)

    def readlink(self, path: str) -> str:
        self._enter("readlink", path, 0.0)
        if path.endswith("/ns/mnt"):
            return "mnt:[1]"
        device = self._device_named(path.split("/")[-1], path)
        disk = self.machine.devices[device.below[0]].name
        return f"../../devices/virtual/block/{disk}/{device.name}"

    def stat(self, path: str) -> Stat:
        self._enter("stat", path)
        parts = path.split("/")
        if path.startswith("/proc/"):
            process = self.machine.processes.get(int(parts[2]))
            if process is None:
                raise error(errno.ENOENT, path)
            lies_on = process.holds[int(parts[4])] if parts[3:4] == ["fd"] else "0:30"
            return Stat(modes.S_IFREG, lies_on, 1, "0:0", 0)
        found = self.file_stat(path)
        if found:
            return found
        for swap in self.machine.swaps:
            if swap.path == path:
                return Stat(modes.S_IFBLK, "0:6", 1, swap.device, 0)
        raise error(errno.ENOENT, path)

    # Mounts and swap

    def _mount_at(self, target: str) -> Mount:
        found = [mount for mount in self.machine.mounts if mount.target == target]
        if not found:
            raise error(errno.EINVAL, target)
        return found[-1]

    def umount(self, target: str, detach: bool = False, force: bool = False) -> None:
        mount = self._mount_at(target)
        if not force:
            self._enter("umount", target)
        if self.machine.mount_is_busy(mount) and not detach:
            raise error(errno.EBUSY, target)
        self._write_back(mount)
        gone = {mount.id}
        for other in self.machine.mounts:
            if other.parent in gone:
                gone.add(other.id)
        self.machine.mounts = [other for other in self.machine.mounts if other.id not in gone]

    def _write_back(self, mount: Mount) -> None:
        """Write what is dirty in a file system to its device, where it ends up dirty too."""
        if mount.device in self.machine.devices and mount.dirty and not mount.readonly:
            if self.machine.blocked(mount.device):
                raise BlockedError
            if self.machine.fails(mount.device):
                self.lost.append(mount.target)
            self.machine.devices[mount.device].dirty = True
        for other in self.machine.mounts:
            if other.device == mount.device:
                other.dirty = False

    def remount(self, target: str, options: str, readonly: bool = False, data: str = "") -> None:
        self._enter("remount", target)
        mount = self._mount_at(target)
        mount.options = data or mount.options
        if readonly and not mount.readonly:
            if mount.written:
                raise error(errno.EBUSY, target)
            self._write_back(mount)
            mount.readonly = True

    def freeze(self, target: str) -> None:
        self._enter("freeze", target)
        self._write_back(self._mount_at(target))
        self.machine.frozen.add(self._mount_at(target).device)

    def thaw(self, target: str) -> None:
        self._enter("thaw", target)
        device = self._mount_at(target).device
        if device not in self.machine.frozen:
            raise error(errno.EINVAL, target)
        self.machine.frozen.remove(device)

    def syncfs(self, target: str) -> None:
        self._enter("syncfs", target)
        self._write_back(self._mount_at(target))

    def swapoff(self, path: str) -> None:
        self._enter("swapoff", path)
        self.machine.swaps = [swap for swap in self.machine.swaps if swap.path != path]

    def sync(self) -> None:
        self._enter("sync", "")
        for mount in self.machine.mounts:
            self._write_back(mount)

    # Block devices

    def _device(self, device: str) -> Device:
        if device not in self.machine.devices:
            raise error(errno.ENXIO, device)
        return self.machine.devices[device]

    def flush(self, device: str) -> None:
        self._enter("flush", device)
        found = self._device(device)
        if (found.kind == "dm" and not found.targets) or self.machine.blocked(device):
            raise BlockedError
        if self.machine.fails(device):
            raise error(errno.EIO, device)
        found.dirty = False
        for lower in found.below:
            self.machine.devices[lower].dirty = True

    def _remove(self, device: str) -> None:
        if any(self.machine.holders(device)):
            raise error(errno.EBUSY, device)
        gone = self.machine.devices.pop(device)
        for other in list(self.machine.devices.values()):
            if gone.device in other.below and other.kind == "partition":
                del self.machine.devices[other.device]  # they go with their disk

    def stop_array(self, device: str) -> None:
        self._enter("stop_array", device)
        self._device(device)
        self._remove(device)

    def detach_loop(self, device: str) -> None:
        self._enter("detach_loop", device)
        if not any(self.machine.holders(self._device(device).device)):
            self._remove(device)

    # Device mapper

    def dm_status(self, device: str) -> DmStatus:
        self._enter("dm_status", device, 0.0)
        found = self._device(device)
        return DmStatus(
            name=found.title or found.name,
            uuid="",
            open_count=len(list(self.machine.holders(device))),
            suspended=found.suspended,
            readonly=False,
            inactive_table=found.inactive_table,
            targets=found.targets,
        )

    def dm_remove(self, device: str) -> None:
        self._enter("dm_remove", device)
        self._device(device)
        self._remove(device)

    def dm_clear(self, device: str) -> None:
        self._enter("dm_clear", device)
        self._device(device).inactive_table = False

    def dm_suspend(self, device: str, lockfs: bool, flush: bool) -> None:
        self._enter("dm_suspend", device)
        if self.machine.blocked(device):
            raise BlockedError
        if lockfs:
            for mount in self.machine.mounts:
                if mount.device == device:
                    self._write_back(mount)
        self._device(device).suspended = True

    def dm_load_error(self, device: str, sectors: int) -> None:
        self._enter("dm_load_error", device)
        self._device(device).error_loaded = True

    def dm_resume(self, device: str) -> None:
        self._enter("dm_resume", device)
        found = self._device(device)
        if found.error_loaded:
            found.targets = (Target(0, found.sectors, "error"),)
            found.below, found.keyed, found.error_loaded = (), False, False
        found.suspended = False
        self._let_go()

    def clear_nbd(self, device: str) -> None:
        self._enter("clear_nbd", device)
        self._take_away(self._device(device))

    def reset_scsi(self, device: str, offline: bool = False) -> None:
        self._enter("reset_scsi", device)
        found = self._device(device)
        if offline:
            self._take_away(found)
        elif found.revives:
            found.dead = False
            self._let_go()

    def pci_hide(self, config: str) -> None:
        self._enter("pci_hide", config)

    def _take_away(self, device: Device) -> None:
        device.dead, device.failing = False, True
        self._let_go()

    def dm_message(self, device: str, sector: int, message: str) -> None:
        self._enter("dm_message", device)
        found = self._device(device)
        crypt = [target for target in found.targets if target.type == "crypt"]
        if message != "key wipe" or not any(target.start == sector for target in crypt):
            raise error(errno.EINVAL, device)
        if not found.suspended:
            raise error(errno.EINVAL, device)
        found.keyed = False

    # Processes, messages, the end

    def kill(self, pid: int, signal: int) -> None:
        self._enter("kill", str(pid), 0.0)
        if pid == -1:
            return
        process = self.machine.processes.get(pid)
        if process is None:
            raise error(errno.ESRCH, str(pid))
        if (signal == 9 and not process.immortal) or (signal == 15 and not process.ignores_term):
            del self.machine.processes[pid]

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

    def _go_down(self, how: str) -> None:
        if not self.down:
            self.down, self.down_at = how, self._clock + self._cost


def _mountinfo(mount: Mount) -> str:
    access = "ro" if mount.readonly else "rw"
    options = f"{access},{mount.options}" if mount.options else access
    target = mount.target.replace("\\", "\\134").replace(" ", "\\040").replace("\n", "\\012")
    return (
        f"{mount.id} {mount.parent} {mount.device} / {target} {access} - "
        f"{mount.fstype} none {options}\n"
    )
