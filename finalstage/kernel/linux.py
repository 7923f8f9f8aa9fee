"""The real kernel behind `Kernel`."""

from __future__ import annotations

import posix
import stat as modes
from errno import ECHILD, EINVAL, EOPNOTSUPP
from time import monotonic, sleep, time

from finalstage.guardian import HEARTBEAT, Guardian
from finalstage.kernel import Stat, dm, fscrypt, keyrings
from finalstage.kernel._linux import ffi, lib
from finalstage.kernel.calls import Calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from finalstage.kernel import Call, DmStatus, FileSystemKey

DM_CONTROL = "/dev/mapper/control"
MISC_MAJOR = 10
READY_THREADS = 8
ZEROS = 1 << 16
LAUNCHER = "/finalstage"
AT_ONCE = "/sys/"
"""Where files, as is /proc/PID/stat, are read in one go: kernfs_fop_read_iter(), single_open()."""

HELPER_PATIENCE = 1.0
LONGEST_RECORD = 8192
"""Bytes that hold any record of /dev/kmsg: PRINTK_MESSAGE_MAX in kernel/printk/internal.h."""

CONSOLE_PATIENCE = 0.2
"""Seconds that a console which takes nothing (flow control, a dead line) may cost a write."""

MOUNT_FLAGS = {
    "nosuid": lib.MS_NOSUID,
    "nodev": lib.MS_NODEV,
    "noexec": lib.MS_NOEXEC,
    "noatime": lib.MS_NOATIME,
    "nodiratime": lib.MS_NODIRATIME,
    "relatime": lib.MS_RELATIME,
}

REBOOT_COMMANDS = {
    "poweroff": lib.LINUX_REBOOT_CMD_POWER_OFF,
    "halt": lib.LINUX_REBOOT_CMD_HALT,
    "reboot": lib.LINUX_REBOOT_CMD_RESTART,
    "kexec": lib.LINUX_REBOOT_CMD_KEXEC,
}


def check(result: int, name: str) -> None:
    """Raise OSError with errno and `name` if a call returned below zero."""
    if result < 0:
        raise OSError(ffi.errno, posix.strerror(ffi.errno), name)


def environment() -> dict[str, str]:
    """Return the environment. As posix has all else that we need of os, that is not imported: it
    brings abstract classes along, and they cost a fifteenth of the time that it takes to start."""
    return {decode(name): decode(value) for name, value in posix.environ.items()}


def decode(word: bytes) -> str:
    """Return what the kernel gave as bytes; odd ones become surrogates."""
    return word.decode("utf-8", "surrogateescape")


def ask_launcher(
    *arguments: str, whole: bool = False, environment: Mapping[str, str] | None = None
) -> str:
    """Run the launcher as a helper, and return what it says first, or as a whole. Can hang."""
    ours, theirs = posix.pipe2(posix.O_CLOEXEC)
    try:
        helper = posix.posix_spawn(
            LAUNCHER,
            (LAUNCHER, *arguments),
            environment or {},
            file_actions=((posix.POSIX_SPAWN_DUP2, theirs, 1),),
        )
    finally:
        posix.close(theirs)
    said = b""
    try:
        while piece := posix.read(ours, 4096):
            said += piece
            if not whole:
                break
    finally:
        posix.close(ours)
    # Who has only said his first line may take a while to give memory back, and needs nobody.
    until = monotonic() + (HELPER_PATIENCE if whole else 0)
    while posix.waitpid(helper, posix.WNOHANG) == (0, 0) and monotonic() < until:
        sleep(HELPER_PATIENCE / 200)
    return said.decode("utf-8", "replace")


def encode(path: str) -> bytes:
    """Return a path as bytes; surrogates become the odd bytes that they stand for."""
    return path.encode("utf-8", "surrogateescape")


def number(device: int) -> str:
    """Return a dev_t as ``major:minor``."""
    return f"{posix.major(device)}:{posix.minor(device)}"


class LinuxKernel:
    """System calls by posix where it has them, by cffi where it has not."""

    def __init__(self, speaks: bool = True, console: int = -1) -> None:
        """Unless it `speaks`, console and log are not even opened: that alone would raise the lines
        of a serial console. `console` is an open file that never makes us wait, in place of
        /dev/console."""
        self.pid = posix.getpid()
        self._calls = Calls(READY_THREADS)
        self._guardian = Guardian(environment())
        self._dm_control = self._kmsg = -1
        self._console = console
        if speaks and console < 0:
            self._console = self._open_quietly("/dev/console", posix.O_WRONLY | posix.O_NONBLOCK)
        if speaks:
            self._kmsg = self._open_quietly("/dev/kmsg", posix.O_WRONLY)

    @staticmethod
    def _open_quietly(path: str, flags: int) -> int:
        """Open a place to write messages to; -1 if there is none, which costs messages only."""
        try:
            return posix.open(path, flags | posix.O_NOCTTY | posix.O_CLOEXEC)
        except OSError:
            return -1

    # Files

    def read(self, path: str) -> bytes:
        fd = posix.open(encode(path), posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            pieces = []
            while piece := posix.read(fd, 1 << 16):
                pieces.append(piece)
                if path.startswith(AT_ONCE) or path.endswith("/stat"):
                    break
            return b"".join(pieces)
        finally:
            posix.close(fd)

    def write(self, path: str, data: bytes) -> None:
        fd = posix.open(encode(path), posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, data)
        finally:
            posix.close(fd)

    def create(self, path: str, data: bytes) -> None:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        fd = posix.open(encode(path), flags, 0o600)
        try:
            posix.write(fd, data)
        finally:
            posix.close(fd)

    def listdir(self, path: str) -> list[str]:
        return posix.listdir(path)

    def readlink(self, path: str) -> str:
        return posix.readlink(path)

    def stat(self, path: str) -> Stat:
        found = posix.stat(encode(path))
        return Stat(
            mode=found.st_mode,
            device=number(found.st_dev),
            inode=found.st_ino,
            special=number(found.st_rdev),
            owner=found.st_uid,
        )

    # Mounts and swap

    def umount(self, target: str, detach: bool = False, force: bool = False) -> None:
        flags = lib.UMOUNT_NOFOLLOW
        flags |= lib.MNT_DETACH if detach else 0
        flags |= lib.MNT_FORCE if force else 0
        check(lib.umount2(encode(target), flags), target)

    def move_mount(self, target: str, place: str, parent: str) -> None:
        check(lib.mount(ffi.NULL, encode(parent), ffi.NULL, lib.MS_PRIVATE, ffi.NULL), parent)
        for folder in (place.rpartition("/")[0], place):
            try:
                posix.mkdir(folder)
            except FileExistsError:
                continue
        moved = lib.mount(encode(target), encode(place), ffi.NULL, lib.MS_MOVE, ffi.NULL)
        if moved < 0 and ffi.errno == EINVAL:  # a file is mounted on a file
            posix.rmdir(place)
            posix.close(posix.open(place, posix.O_CREAT | posix.O_CLOEXEC, 0o600))
            moved = lib.mount(encode(target), encode(place), ffi.NULL, lib.MS_MOVE, ffi.NULL)
        check(moved, target)

    def remount(self, target: str, options: str, readonly: bool = False, data: str = "") -> None:
        # MS_REMOUNT sets the flags of the mount as well as those of its file system, so those
        # that are in force are given again: do_remount() in fs/namespace.c. A file system keeps
        # those options that `data` does not mention.
        flags = lib.MS_REMOUNT | (lib.MS_RDONLY if readonly else 0)
        for option in options.split(","):
            flags |= MOUNT_FLAGS.get(option, 0)
        text = ffi.new("char[]", data.encode()) if data else ffi.NULL
        check(lib.mount(ffi.NULL, encode(target), ffi.NULL, flags, text), target)

    def freeze(self, target: str) -> None:
        self._control_file_system(target, lib.FIFREEZE)

    def thaw(self, target: str) -> None:
        self._control_file_system(target, lib.FITHAW)

    @staticmethod
    def _control_file_system(target: str, command: int) -> None:
        fd = posix.open(encode(target), posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            check(lib.ioctl(fd, command, ffi.cast("int", 0)), target)
        finally:
            posix.close(fd)

    def syncfs(self, target: str) -> None:
        fd = posix.open(encode(target), posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            check(lib.syncfs(fd), target)
        finally:
            posix.close(fd)

    def swapoff(self, path: str, device: str = "") -> None:
        if not device:
            check(lib.swapoff(encode(path)), path)
            return
        node = f"/dev/.finalstage-swap{device}"
        self._make_node(node, device, modes.S_IFBLK)
        try:
            check(lib.swapoff(encode(node)), path)
        finally:
            posix.unlink(node)

    def sync(self) -> None:
        posix.sync()

    # Block devices

    def flush(self, device: str, alone: bool = False) -> None:
        fd = self._open_block(device, posix.O_RDONLY | (posix.O_EXCL if alone else 0))
        try:
            posix.fsync(fd)
        finally:
            posix.close(fd)

    def read_device(self, device: str, size: int) -> bytes:
        fd = self._open_block(device, posix.O_RDONLY | posix.O_EXCL)
        try:
            data = b""
            while piece := posix.pread(fd, size - len(data), len(data)):
                data += piece
            return data
        finally:
            posix.close(fd)

    def write_device(self, device: str, data: bytes) -> None:
        fd = self._open_block(device, posix.O_WRONLY | posix.O_EXCL)
        try:
            at = 0
            while at < len(data):
                at += posix.pwrite(fd, data[at:], at)
            posix.fsync(fd)
        finally:
            posix.close(fd)

    def stop_array(self, device: str) -> None:
        fd = self._open_block(device, posix.O_RDONLY | posix.O_EXCL)
        try:
            check(lib.ioctl(fd, lib.STOP_ARRAY, ffi.NULL), device)
        finally:
            posix.close(fd)

    def clear_nbd(self, device: str, disconnect: bool = False) -> None:
        fd = self._open_block(device, posix.O_RDONLY | posix.O_NONBLOCK)
        try:
            if disconnect:
                check(lib.ioctl(fd, lib.NBD_DISCONNECT), device)
            check(lib.ioctl(fd, lib.NBD_CLEAR_SOCK, ffi.NULL), device)
        finally:
            posix.close(fd)

    def detach_loop(self, device: str) -> None:
        fd = self._open_block(device, posix.O_RDONLY)
        try:
            check(lib.ioctl(fd, lib.LOOP_CLR_FD, ffi.NULL), device)
        finally:
            posix.close(fd)

    def reset_scsi(self, device: str, offline: bool = False) -> None:
        # A disk that is offline cannot be opened any more: sd_open() in drivers/scsi/sd.c.
        fd = self._open_block(device, posix.O_RDONLY | posix.O_NONBLOCK)
        try:
            if offline:
                self.write(f"/sys/dev/block/{device}/device/state", b"offline\n")
            how = ffi.new("int *", lib.SG_SCSI_RESET_DEVICE)
            check(lib.ioctl(fd, lib.SG_SCSI_RESET, how), device)
        finally:
            posix.close(fd)

    def pci_hide(self, config: str) -> None:
        fd = posix.open(encode(config), posix.O_RDWR | posix.O_CLOEXEC)
        try:
            low = posix.pread(fd, 1, lib.PCI_BASE_ADDRESS_0)
            if len(low) != 1 or not low[0] & lib.PCI_BASE_ADDRESS_MEM_TYPE_64:
                raise OSError(EOPNOTSUPP, posix.strerror(EOPNOTSUPP), config)
            posix.pwrite(fd, b"\xff\xff\xff\x7f", lib.PCI_BASE_ADDRESS_1)
        finally:
            posix.close(fd)

    def _open_block(self, device: str, flags: int) -> int:
        """Open a block device by its number alone.

        udev's names may be gone, stale or someone else's; a node of our own, removed as soon as
        it is open, is always right. /dev is the one place that no system mounts nodev.
        """
        return self._open_node(device, flags, modes.S_IFBLK)

    @staticmethod
    def _make_node(path: str, device: str, kind: int) -> None:
        try:
            posix.mknod(path, kind | 0o600, posix.makedev(*dm.split(device)))
        except FileExistsError:
            pass  # left by a call that hangs with it: the same node, so just as good

    def _open_node(self, device: str, flags: int, kind: int) -> int:
        path = f"/dev/.finalstage-{'b' if kind == modes.S_IFBLK else 'c'}{device}"
        self._make_node(path, device, kind)
        try:
            return posix.open(path, flags | posix.O_CLOEXEC)
        except OSError as error:
            raise OSError(error.errno, error.strerror, device) from error
        finally:
            try:
                posix.unlink(path)
            except FileNotFoundError:
                pass  # another thread has just removed it

    # Device mapper

    def _control(self) -> int:
        if self._dm_control < 0:
            try:
                self._dm_control = posix.open(DM_CONTROL, posix.O_RDWR | posix.O_CLOEXEC)
            except OSError:
                self._dm_control = self._open_node(
                    f"{MISC_MAJOR}:{self._misc_minor('device-mapper')}", posix.O_RDWR, modes.S_IFCHR
                )
        return self._dm_control

    def _misc_minor(self, name: str) -> int:
        for line in self.read("/proc/misc").decode().splitlines():
            minor, _, found = line.strip().partition(" ")
            if found == name:
                return int(minor)
        raise FileNotFoundError(2, posix.strerror(2), f"{name} in /proc/misc")

    def dm_status(self, device: str) -> DmStatus:
        return dm.status(self._control(), device)

    def dm_info(self, device: str) -> DmStatus:
        return dm.info(self._control(), device)

    def dm_remove(self, device: str) -> None:
        dm.request(self._control(), lib.DM_DEV_REMOVE, device)

    def dm_clear(self, device: str) -> None:
        dm.request(self._control(), lib.DM_TABLE_CLEAR, device)

    def dm_suspend(self, device: str, lockfs: bool, flush: bool) -> None:
        flags = lib.DM_SUSPEND_FLAG
        flags |= 0 if lockfs else lib.DM_SKIP_LOCKFS_FLAG
        flags |= 0 if flush else lib.DM_NOFLUSH_FLAG
        dm.request(self._control(), lib.DM_DEV_SUSPEND, device, flags=flags)

    def dm_load_error(self, device: str, sectors: int) -> None:
        dm.load_error(self._control(), device, sectors)

    def dm_resume(self, device: str) -> None:
        flags = lib.DM_SKIP_LOCKFS_FLAG | lib.DM_NOFLUSH_FLAG
        dm.request(self._control(), lib.DM_DEV_SUSPEND, device, flags=flags)

    def dm_message(self, device: str, sector: int, message: str) -> None:
        dm.message(self._control(), device, sector, message)

    # Keys, and what else must not stay

    def clear_keyrings(self, uid: int) -> int:
        return keyrings.clear(uid)

    def revoke_key(self, serial: int) -> None:
        keyrings.revoke(serial)

    def encryption_key(self, directory: str) -> FileSystemKey:
        fd = self._open_directory(directory)
        try:
            return fscrypt.key_of(fd)
        finally:
            posix.close(fd)

    def remove_encryption_key(self, directory: str, key: FileSystemKey) -> bool:
        fd = self._open_directory(directory)
        try:
            return fscrypt.remove(fd, key)
        finally:
            posix.close(fd)

    @staticmethod
    def _open_directory(path: str) -> int:
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
        return posix.open(encode(path), flags)

    def overwrite_file(self, path: str) -> None:
        flags = posix.O_WRONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC
        fd = posix.open(encode(path), flags)
        try:
            found = posix.fstat(fd)
            if not modes.S_ISREG(found.st_mode):
                return
            at = 0
            while at < found.st_size:
                at += posix.pwrite(fd, bytes(min(ZEROS, found.st_size - at)), at)
            posix.fsync(fd)
        finally:
            posix.close(fd)
        posix.unlink(encode(path))

    def mount_api(self, fstype: str, target: str) -> None:
        flags = lib.MS_NOSUID | lib.MS_NODEV | lib.MS_NOEXEC
        kind = fstype.encode()
        check(lib.mount(kind, encode(target), kind, flags, ffi.NULL), target)

    def mount_device(self, device: str, fstype: str, target: str) -> None:
        try:
            posix.mkdir(target, 0o700)
        except FileExistsError:
            pass  # it was mounted there before
        node = f"/dev/.finalstage-mount{device}"
        self._make_node(node, device, modes.S_IFBLK)
        flags = lib.MS_NOSUID | lib.MS_NODEV | lib.MS_NOEXEC
        try:
            check(lib.mount(encode(node), encode(target), fstype.encode(), flags, ffi.NULL), target)
        finally:
            posix.unlink(node)

    def replace_file(self, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        beside = encode(f"{folder}/.{name}.new")
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW | posix.O_CLOEXEC
        fd = posix.open(beside, flags, 0o600)
        try:
            at = 0
            while at < len(data):
                at += posix.write(fd, data[at:])
            posix.fsync(fd)
            posix.rename(beside, encode(path))
        except OSError:
            posix.unlink(beside)
            raise
        finally:
            posix.close(fd)

    def make_mutable(self, path: str) -> None:
        fd = posix.open(encode(path), posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            fscrypt.clear_flags(fd, lib.FS_IMMUTABLE_FL)
        finally:
            posix.close(fd)

    # Memory

    def wait_for_rcu(self) -> None:
        check(lib.sys_membarrier(lib.MEMBARRIER_CMD_GLOBAL), "membarrier")

    def kernel_log(self) -> bytes:
        # Each read(2) gives one record, EPIPE if some have been overwritten meanwhile.
        fd = posix.open("/dev/kmsg", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        records = []
        try:
            while True:
                try:
                    records.append(posix.read(fd, LONGEST_RECORD))
                except BlockingIOError:
                    return b"".join(records)
                except BrokenPipeError:
                    continue
        finally:
            posix.close(fd)

    def scrub_memory(self, seconds: float) -> tuple[bool, int]:
        words = ask_launcher("--scrub", f"{seconds:.3f}").split()
        if len(words) != 2 or words[0] not in ("all", "part"):
            raise OSError(ECHILD, " ".join(words[1:]) or "the helper was killed", LAUNCHER)
        return words[0] == "all", int(words[1])

    def run_hooks(self, verb: str, seconds: float) -> list[str]:
        return ask_launcher("--hooks", verb, f"{seconds:.3f}", whole=True).splitlines()

    def run_moment(
        self, moment: str, verb: str, seconds: float, each: float, facts: Mapping[str, str]
    ) -> list[str]:
        words = ("--moment", moment, verb, f"{seconds:.3f}", f"{each:.3f}")
        facts = {"FINALSTAGE_MOMENT": moment, **facts}
        return ask_launcher(*words, whole=True, environment=facts).splitlines()

    # Processes, time, calls

    def kill(self, pid: int, signal: int) -> None:
        posix.kill(pid, signal)

    def now(self) -> float:
        return monotonic()

    def time_of_day(self) -> float:
        return time()

    def sleep(self, seconds: float) -> None:
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self._guardian.alive()
            sleep(min(left, HEARTBEAT))

    def start(self, name: str, function: Callable[[], object]) -> Call:
        return self._calls.start(name, function)

    def wait(self, calls: Iterable[Call], timeout: float) -> list[Call]:
        waiting_for = list(calls)
        until = monotonic() + timeout
        while True:
            self._guardian.alive()
            left = until - monotonic()
            done = self._calls.wait(waiting_for, min(left, HEARTBEAT))
            if done or left <= HEARTBEAT:
                return done

    # This process, and the end

    def console(self, data: bytes) -> None:
        until = monotonic() + CONSOLE_PATIENCE
        while data and self._console >= 0:
            try:
                data = data[posix.write(self._console, data) :]
            except BlockingIOError:
                if monotonic() > until:
                    return
                sleep(CONSOLE_PATIENCE / 20)
            except OSError:
                return

    def drain_console(self) -> None:
        if self._console >= 0:
            check(lib.tcdrain(self._console), "console")

    def log(self, data: bytes) -> None:
        if self._kmsg >= 0:
            try:
                posix.write(self._kmsg, data)
            except OSError:
                return  # a record too long, or printk.devkmsg=off: the console still has it

    def tell_guardian(self, line: str) -> None:
        self._guardian.tell(line)

    def lock_memory(self) -> None:
        check(lib.mlockall(lib.MCL_CURRENT | lib.MCL_FUTURE), "memory")

    def reboot(self, command: str, argument: str = "") -> None:
        code = REBOOT_COMMANDS[command]
        text = ffi.NULL
        if command == "reboot" and argument:
            code = lib.LINUX_REBOOT_CMD_RESTART2
            text = encode(argument)
        check(lib.sys_reboot(code, text), command)
