"""A simulated machine: block devices, mounts, swap areas and processes, and who holds whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from finalstage.kernel import Target


@dataclass
class Device:
    """A block device. `kind` is ``disk``, ``partition``, ``dm``, ``md`` or ``loop``.

    A loop device has `backing`, a file on the file system of the device `lies_on`.

    A dead one answers nothing, unless it `revives` when it is reset; a failing one answers only
    with errors. A `busy` one has something in flight and goes on answering, whenever no other one
    is dead. One that has `gone` its driver has removed: only what stands on it still knows it, by
    a link to nowhere.
    """

    name: str
    device: str
    kind: str
    below: tuple[str, ...] = ()
    sectors: int = 2048
    title: str = ""
    level: str = "raid1"
    targets: tuple[Target, ...] = ()
    suspended: bool = False
    inactive_table: bool = False
    keyed: bool = False
    dirty: bool = True
    failing: bool = False
    dead: bool = False
    busy: bool = False
    gone: bool = False
    revives: bool = False
    error_loaded: bool = False
    backing: str = ""
    lies_on: str = ""


@dataclass
class Mount:
    """A mount; `busy` means that something other than a process of the machine holds it, and
    `written` that it has a file open for writing."""

    id: int
    parent: int
    target: str
    device: str
    fstype: str = "ext4"
    busy: bool = False
    readonly: bool = False
    written: bool = False
    options: str = ""
    dirty: bool = True


@dataclass
class Swap:
    """A swap area on a block device."""

    path: str
    device: str


@dataclass
class Process:
    """A process. `holds` are devices whose file systems it has files open on."""

    pid: int
    name: str = "sleep"
    parent: int = 1
    argv0: str = "sleep"
    state: str = "S"
    kernel_thread: bool = False
    ignores_term: bool = False
    immortal: bool = False
    oom_score_adj: int = 0
    holds: tuple[str, ...] = ()


@dataclass
class Machine:
    """All of it. Devices go by ``major:minor``."""

    devices: dict[str, Device] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    swaps: list[Swap] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)
    kexec_loaded: bool = False
    command_line: str = "quiet"
    reboot_parameter: str = ""
    # Devices whose file systems are frozen: they are held, mounted or not.
    frozen: set[str] = field(default_factory=set)
    # Keys by user, as "type description", and those that something in the kernel holds.
    keyrings: dict[int, tuple[str, ...]] = field(default_factory=dict)
    pinned_keys: tuple[str, ...] = ()
    # Key files, with the device of their file system; encrypted directories, with their keys.
    files: dict[str, str] = field(default_factory=dict)
    vaults: dict[str, bytes] = field(default_factory=dict)
    vault_keys: set[bytes] = field(default_factory=set)
    vaults_in_use: set[bytes] = field(default_factory=set)
    settings: dict[str, str] = field(
        default_factory=lambda: {"/proc/sys/vm/panic_on_oom": "1", "/proc/sys/vm/drop_caches": "0"}
    )
    kernel_log: bytes = b""
    scrub_seconds: float = 0.5
    scrubbed: bool = False
    # EFI variables by path; efivarfs is seen once it is mounted.
    efi: dict[str, bytes] = field(default_factory=dict)
    efi_mounted: bool = False
    immutable: set[str] = field(default_factory=set)

    def by_name(self, name: str) -> Device:
        """Return a device by its kernel name."""
        return next(device for device in self.devices.values() if device.name == name)

    def holders(self, device: str) -> Iterator[str]:
        """Yield what holds a block device open, or stands on it."""
        yield from (mount.target for mount in self.mounts if mount.device == device)
        yield from ("a frozen file system" for frozen in self.frozen if frozen == device)
        yield from (swap.path for swap in self.swaps if swap.device == device)
        for other in self.devices.values():
            if device in other.below and other.kind in ("dm", "md"):
                yield other.name
            elif device in other.below and other.kind == "partition":
                yield from self.holders(other.device)

    def mount_is_busy(self, mount: Mount) -> bool:
        """Whether umount2 says EBUSY: a mount on it, an open file, or something else."""
        return (
            mount.busy
            or any(other.parent == mount.id for other in self.mounts)
            or any(mount.device in process.holds for process in self.processes.values())
            or any(mount.device == device.lies_on for device in self.devices.values())
        )

    def reaches(self, device: str) -> Iterator[Device]:
        """Yield a device and all that it stands on."""
        yield self.devices[device]
        for lower in self.devices[device].below:
            yield from self.reaches(lower)

    def blocked(self, device: str) -> bool:
        """Whether I/O to a device never ends: it, or something below, is suspended or hangs."""
        return any(lower.suspended or lower.dead for lower in self.reaches(device))

    def fails(self, device: str) -> bool:
        """Whether I/O to a device ends in an error: it, or all that it mirrors, fails."""
        found = self.devices[device]
        if found.failing or any(target.type == "error" for target in found.targets):
            return True
        below = [self.fails(lower) for lower in found.below]
        return bool(below) and (all(below) if found.kind == "md" else any(below))


def main_stack() -> Machine:
    """ext4 on LVM on LUKS on RAID1 over two disks, as root; the tree's own mounts beside it."""
    machine = Machine()
    for device in (
        Device("vda", "254:0", "disk"),
        Device("vdb", "254:16", "disk"),
        Device("md0", "9:0", "md", ("254:0", "254:16")),
        Device(
            "dm-0",
            "253:0",
            "dm",
            ("9:0",),
            title="cryptroot",
            targets=(Target(0, 2048, "crypt"),),
            keyed=True,
        ),
        Device(
            "dm-1", "253:1", "dm", ("253:0",), title="vg-root", targets=(Target(0, 1024, "linear"),)
        ),
    ):
        machine.devices[device.device] = device
    machine.mounts = [
        Mount(1, 0, "/", "0:30", "tmpfs"),
        Mount(2, 1, "/proc", "0:31", "proc"),
        Mount(3, 1, "/sys", "0:32", "sysfs"),
        Mount(4, 1, "/dev", "0:6", "devtmpfs"),
        Mount(10, 1, "/oldroot", "253:1"),
        Mount(11, 10, "/oldroot/dev", "0:6", "devtmpfs"),
        Mount(12, 10, "/oldroot/run", "0:33", "tmpfs"),
    ]
    machine.processes = {
        1: Process(1, "finalstage", 0, "finalstage"),
        2: Process(2, "kthreadd", 0, "", kernel_thread=True),
        50: Process(50, "stage", 1, "/usr/lib/finalstage/stage"),
    }
    return machine
