"""The one door to the kernel: every system call, ioctl and read of /proc and /sys is a method here.

`Kernel` is the interface. `finalstage.kernel.linux` is the real one; the tests have a simulated
one, with the real one's rules, its own clock, and faults at every call.

All methods raise OSError with errno and the object's name. Devices are named as sysfs names
them, ``major:minor``. Times are seconds, sizes are sectors of 512 bytes unless a name says bytes.
"""

from __future__ import annotations

from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol
else:
    Protocol = object

SECTOR = 512

TYPE_OF_FILE, BLOCK_DEVICE, DIRECTORY = 0o170000, 0o060000, 0o040000
"""Of a mode: inode(7)."""


class Stat(Value):
    """What stat(2) says, as far as it matters here; devices as ``major:minor``."""

    mode: int
    device: str
    inode: int
    special: str
    owner: int

    @property
    def is_block(self) -> bool:
        """Whether it is a block device."""
        return self.mode & TYPE_OF_FILE == BLOCK_DEVICE

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.mode & TYPE_OF_FILE == DIRECTORY


class Target(Value):
    """One segment of a live dm table: start and length in sectors, and the target type.

    `status` is what the target says of itself, of those types that have no secrets to tell.
    """

    start: int
    length: int
    type: str
    status: str = ""


class FileSystemKey(Value):
    """What a file system calls the key of an encrypted directory: <linux/fscrypt.h>."""

    type: int
    name: bytes

    @property
    def title(self) -> str:
        """The name in digits, as fscrypt(8) shows it."""
        return self.name.hex()


class DmStatus(Value):
    """The header of DM_TABLE_STATUS and the segments, never their parameters (keys are in them).

    `live_table` is whether there is any; `targets` are not always asked for.
    """

    name: str
    uuid: str
    open_count: int
    suspended: bool
    readonly: bool
    live_table: bool
    inactive_table: bool
    targets: tuple[Target, ...] = ()


class Call:
    """Something that was started and may never come back.

    `done` turns true once; then `error` says how it failed, or is None, and `value` is the result.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = 0.0
        self.finished = 0.0
        self.done = False
        self.value: object = None
        self.error: BaseException | None = None


class Kernel(Protocol):
    """What the stage may ask of the kernel."""

    pid: int

    # Reading and writing files, nearly all of them in /proc and /sys.

    def read(self, path: str) -> bytes:
        """Return the whole file."""

    def write(self, path: str, data: bytes) -> None:
        """Write to an existing file with one write(2), as sysfs and /proc want it."""

    def create(self, path: str, data: bytes) -> None:
        """Make a file, which only root may read, with one write(2). EEXIST if there is one."""

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, in no order."""

    def readlink(self, path: str) -> str:
        """Return a symbolic link's target."""

    def stat(self, path: str) -> Stat:
        """Follow links and describe what is there. Can hang on a dead network file system."""

    # Mounts and swap. Those that write can hang.

    def umount(self, target: str, detach: bool = False, force: bool = False) -> None:
        """umount2(2) with UMOUNT_NOFOLLOW; `detach` adds MNT_DETACH, `force` MNT_FORCE, which
        has a FUSE or network file system give up what it waits for."""

    def move_mount(self, target: str, place: str, parent: str) -> None:
        """MS_MOVE a mount, with all that is mounted on it, to `place`, which is made for it.

        It was on the mount at `parent`, which from then on shares no events with others: that
        would be EINVAL.
        """

    def remount(self, target: str, options: str, readonly: bool = False, data: str = "") -> None:
        """Make the file system at `target` read-only, or change its own options to `data`.

        `options` are the mount's, and stay.
        """

    def freeze(self, target: str) -> None:
        """Write a file system out and keep it from changing: FIFREEZE, <linux/fs.h>."""

    def thaw(self, target: str) -> None:
        """Let a frozen file system go on: FITHAW. EINVAL if it is not frozen."""

    def syncfs(self, target: str) -> None:
        """Write a file system out: syncfs(2)."""

    def swapoff(self, path: str, device: str = "") -> None:
        """Read everything back from the swap area and close it. It is the file `path`, or the block
        device `device`, whatever has become of the node by which it was switched on."""

    def sync(self) -> None:
        """Write out every file system and block device: sync(2)."""

    # Block devices. All of them can hang.

    def flush(self, device: str, alone: bool = False) -> None:
        """Write out the device's page cache and have it flush its own: fsync(2) on it.

        With `alone` EBUSY if anything holds it, or a partition of it: O_EXCL, open(2)."""

    def read_device(self, device: str, size: int) -> bytes:
        """Return the first bytes of a device, or all if it has not as many. EBUSY if anything
        holds it, or a partition of it: O_EXCL, open(2)."""

    def write_device(self, device: str, data: bytes) -> None:
        """Write to the beginning of a device, and have it write that out. EBUSY likewise."""

    def stop_array(self, device: str) -> None:
        """Stop an md array: STOP_ARRAY on an exclusively opened device (drivers/md/md.c)."""

    def clear_nbd(self, device: str, disconnect: bool = False) -> None:
        """Have a network block device forget its connection and fail what is in flight:
        NBD_CLEAR_SOCK (drivers/block/nbd.c). With `disconnect` its server is told before."""

    def reset_scsi(self, device: str, offline: bool = False) -> None:
        """Have a SCSI disk forget what it is doing: SG_SCSI_RESET, <scsi/sg.h>. The commands come
        back and are tried again, or with `offline` fail. Can hang."""

    def pci_hide(self, config: str) -> None:
        """Have a PCI device answer on no address but its configuration space, the file `config`:
        its registers then read as all ones, as if it had been pulled out. It must have the first
        of them at a 64-bit address; this goes where no bridge leads. <linux/pci_regs.h>."""

    def detach_loop(self, device: str) -> None:
        """LOOP_CLR_FD: at once, or where it is open elsewhere, when that is closed. ENXIO if it
        is not attached."""

    # Device mapper, <linux/dm-ioctl.h>.

    def dm_status(self, device: str) -> DmStatus:
        """DM_TABLE_STATUS with DM_NOFLUSH_FLAG: shows no key.

        Can hang, in targets that have metadata: one of thin waits for what its pool is writing,
        one of era for ever while it is suspended (era_status() in drivers/md/dm-era-target.c).
        """

    def dm_info(self, device: str) -> DmStatus:
        """DM_DEV_STATUS: the same without segments. No target is asked, and so it never hangs."""

    def dm_remove(self, device: str) -> None:
        """DM_DEV_REMOVE: EBUSY while open."""

    def dm_clear(self, device: str) -> None:
        """DM_TABLE_CLEAR: drop the inactive table, and the keys in it."""

    def dm_suspend(self, device: str, lockfs: bool, flush: bool) -> None:
        """DM_DEV_SUSPEND: hold I/O; with `lockfs` the file system above is frozen first, with
        `flush` queued I/O is written. Waits for I/O in flight in any case."""

    def dm_load_error(self, device: str, sectors: int) -> None:
        """DM_TABLE_LOAD of one `error` target: an inactive table in which all I/O fails."""

    def dm_resume(self, device: str) -> None:
        """DM_DEV_SUSPEND without the suspend flag: swap in the inactive table and go on, without
        flushing or freezing anything first."""

    def dm_message(self, device: str, sector: int, message: str) -> None:
        """DM_TARGET_MSG to the target at `sector`."""

    # Processes.

    def kill(self, pid: int, signal: int) -> None:
        """kill(2)."""

    # Time, and calls that may never return.

    def now(self) -> float:
        """Monotonic seconds."""

    def time_of_day(self) -> float:
        """Seconds since 1970, as far as the machine knows."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def start(self, name: str, function: Callable[[], object]) -> Call:
        """Run `function` aside. If it hangs, only itself hangs."""

    def wait(self, calls: Iterable[Call], timeout: float) -> list[Call]:
        """Wait until one of `calls` is done, or for `timeout` seconds; return those done."""

    # Keys, and what else must not stay.

    def clear_keyrings(self, uid: int) -> int:
        """Clear all keyrings of a user, as that user; return how many keys there were."""

    def revoke_key(self, serial: int) -> None:
        """Revoke a key, by its number, which frees what it holds, whoever has it."""

    def encryption_key(self, directory: str) -> FileSystemKey:
        """FS_IOC_GET_ENCRYPTION_POLICY_EX: ENODATA if the directory is not encrypted, ENOTDIR if
        it is none, ENOTTY or EOPNOTSUPP if its file system knows no encryption. Can hang."""

    def remove_encryption_key(self, directory: str, key: FileSystemKey) -> bool:
        """FS_IOC_REMOVE_ENCRYPTION_KEY_ALL_USERS on the file system of `directory`: writes out
        what is dirty under that key, and wipes it. Return whether files are still in use, which
        keep keys of their own. ENOKEY if it is not there. Can hang."""

    def overwrite_file(self, path: str) -> None:
        """Overwrite every byte of a regular file where it lies, and remove it."""

    def mount_api(self, fstype: str, target: str) -> None:
        """mount(2) one of the kernel's own file systems."""

    def mount_device(self, device: str, fstype: str, target: str) -> None:
        """mount(2) a file system that lies on a device at `target`, which is made for it. What
        drives it must be loaded. Can hang."""

    def replace_file(self, path: str, data: bytes) -> None:
        """Write a file anew beside the old one, if there is one, have it written out, and give it
        the name of that. Can hang."""

    def make_mutable(self, path: str) -> None:
        """Take the immutable flag, as chattr(1) sets it, from a file."""

    def wait_for_rcu(self) -> None:
        """Wait until what the kernel has taken out of use before is out of use: membarrier(2)
        with MEMBARRIER_CMD_GLOBAL, which is synchronize_rcu() in kernel/sched/membarrier.c."""

    def kernel_log(self) -> bytes:
        """What is still in the ring buffer of the kernel's log, a record a line: /dev/kmsg."""

    def scrub_memory(self, seconds: float) -> tuple[bool, int]:
        """Take all free memory, and so overwrite it, in a process of its own, for some seconds.

        Return whether that was all, and how many bytes. finalstage/launcher/scrub.c."""

    def run_hooks(self, verb: str, seconds: float) -> list[str]:
        """Run the programs in the old root's system-shutdown folder, each with the verb, all at
        once and for some seconds at most, and none of them twice.

        Return what did not go well, and in the end ``ran NUMBER``. finalstage/launcher/hooks.c."""

    def run_moment(
        self, moment: str, verb: str, seconds: float, each: float, facts: Mapping[str, str]
    ) -> list[str]:
        """Run the administrator's own programs for a moment, each with the verb and with `facts` in
        its environment, one after the other, `each` for some seconds and all for `seconds` at most,
        and none of them twice. Return the same."""

    # The stage's own process, and the end.

    def console(self, data: bytes) -> None:
        """Write to the console, or drop what it does not take in a short time. Never raises."""

    def drain_console(self) -> None:
        """Wait until the console has shown all. Can hang, on a line that takes nothing."""

    def log(self, data: bytes) -> None:
        """Write one record to the kernel's log, /dev/kmsg. Never raises."""

    def tell_guardian(self, line: str) -> None:
        """Tell the guardian something (finalstage.guardian). Never raises, never blocks."""

    def lock_memory(self) -> None:
        """mlockall(2): nothing of this process is ever swapped out."""

    def reboot(self, command: str, argument: str = "") -> None:
        """reboot(2): ``poweroff``, ``halt``, ``reboot`` (with its argument) or ``kexec``."""
