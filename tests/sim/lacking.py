"""What a kernel may lack: one that is older, or was configured with less.

Each of `LACKS` is an interface by its name, with the error that a kernel without it gives, and what
is said without it: nothing, mostly. Then all that `properties` asks for has to hold as if it were
there. Only where it `costs` something that is an excuse, and the report has to say so.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from finalstage.stage import KEY_LEFT
from tests.sim.faults import error
from tests.sim.kinds.container import Container, Member
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.nvme import Nvme
from tests.sim.kinds.rbd import Rbd
from tests.sim.machine import Machine

Call = tuple[str, str]


@dataclass(frozen=True)
class Lack:
    """An interface that is missing: `calls` are patterns of operations and of what they are called
    with, `code` is the errno, `why` says which kernel that is.

    `said` are the words by which the report says so. On such a kernel there are only machines that
    it `fits`; `prepare` makes one of it.
    """

    name: str
    why: str
    code: int
    calls: tuple[Call, ...]
    said: tuple[str, ...] = ()
    costs: bool = False
    fits: Callable[[Machine], bool] = lambda machine: True
    prepare: Callable[[Machine], None] = lambda machine: None

    def covers(self, operation: str, name: str) -> bool:
        """Whether a call asks for it."""
        return any(
            fnmatchcase(operation, which) and fnmatchcase(name, pattern)
            for which, pattern in self.calls
        )

    def hides(self, path: str) -> bool:
        """Whether a name is not in its directory without it."""
        return self.code == errno.ENOENT and any(
            which in ("read", "write", "listdir") and fnmatchcase(path, pattern)
            for which, pattern in self.calls
        )

    def refuse(self, name: str) -> OSError:
        """Return the error of such a kernel."""
        return error(self.code, name)


def files(*patterns: str) -> tuple[Call, ...]:
    """Return the calls by which files are read and written, and directories listed."""
    return tuple((how, pattern) for how in ("read", "write", "listdir") for pattern in patterns)


def missing(name: str, why: str, *patterns: str, **more: object) -> Lack:
    """Return the lack of some files."""
    return Lack(name, why, errno.ENOENT, files(*patterns), **more)  # type: ignore[arg-type]


def has_no_containers(machine: Machine) -> bool:
    """Metadata outside of the kernel came long after these attributes."""
    return not any(isinstance(x, Container | Member) for x in machine.devices.values())


def has_no_swap(machine: Machine) -> bool:
    """A kernel without swap has none in use."""
    return not machine.swaps


def without_shared_major(machine: Machine) -> None:
    """Before there was one major number for all images, each had its own."""
    for device in machine.devices.values():
        if isinstance(device, Rbd):
            device.single_major = False


def without_keyrings(machine: Machine) -> None:
    """Nobody has any on such a kernel."""
    machine.keyrings, machine.pinned_keys = {}, ()


def has_a_key(machine: Machine) -> bool:
    """Else there is nothing to say."""
    return any(isinstance(x, Dm) and x.may_have_key() for x in machine.devices.values())


def has_no_fabrics(machine: Machine) -> bool:
    """NVMe disks over a network came together with the word for it."""
    return not any(isinstance(x, Nvme) and x.transport != "pcie" for x in machine.devices.values())


DM = ("dm_status", "dm_info", "dm_remove", "dm_clear", "dm_suspend", "dm_load_error", "dm_resume")

LACKS = (
    # Numbers and settings.
    missing("printk_devkmsg", "before Linux 4.9", "/proc/sys/kernel/printk_devkmsg"),
    missing("rcu_expedited", "for one processor, kernel/ksysfs.c", "/sys/kernel/rcu_expedited"),
    missing("core_pattern", "without CONFIG_COREDUMP", "/proc/sys/kernel/core_pattern"),
    missing("sysctl", "without CONFIG_SYSCTL", "/proc/sys/*",
            said=("cannot drop the caches: not there", "MEMORY IS NOT OVERWRITTEN")),
    Lack("sysctl that may be written", "in a container: proc(5)", errno.EROFS,
         (("write", "/proc/sys/*"),),
         said=("cannot keep all records", "cannot forbid core dumps", "expired keys stay a while",
               "cannot drop the caches", "MEMORY IS NOT OVERWRITTEN")),
    missing("slabs in /sys", "with SLOB, or without CONFIG_SLUB_SYSFS", "/sys/kernel/slab"),
    missing("command line", "without /proc", "/proc/cmdline",
            said=("cannot read the kernel's command line",)),
    missing("memory in numbers", "without /proc", "/proc/meminfo"),
    missing("oom_score_adj", "before Linux 2.6.36", "*/oom_score_adj",
            said=("MEMORY IS NOT OVERWRITTEN",)),
    missing("parameters of modules", "where they are built in", "/sys/module/*/parameters/*"),
    missing("use of modules", "without CONFIG_MODULE_UNLOAD", "/sys/module/*/refcnt"),
    # Processes.
    missing("children of processes", "without CONFIG_PROC_CHILDREN", "/proc/*/children"),
    Lack("mount namespaces", "before Linux 3.8: fs/proc/namespaces.c", errno.ENOENT,
         (("readlink", "/proc/*/ns/mnt"), ("read", "/proc/[0-9]*/mountinfo"))),
    missing("maps of processes", "without CONFIG_PROC_PAGE_MONITOR", "/proc/*/maps"),
    Lack("locked memory", "without CAP_IPC_LOCK: can_do_mlock()", errno.EPERM,
         (("lock_memory", "*"),), said=("cannot lock memory",)),
    # Block devices.
    missing("numbers of drivers", "without /proc", "/proc/devices"),
    missing("numbers of requests", "without statistics", "/sys/dev/block/*/stat"),
    missing("swap", "without CONFIG_SWAP", "/proc/swaps", fits=has_no_swap),
    missing("files behind loop devices", "before Linux 2.6.37", "*/loop/backing_file"),
    missing("array_state", "an old md", "*/md/array_state", fits=has_no_containers),
    missing("metadata_version", "an old md", "*/md/metadata_version", fits=has_no_containers),
    missing("sync_action and suspend_lo", "an old md", "*/md/sync_action", "*/md/suspend_lo"),
    missing("attributes of md", "an old md", "*/md/*", fits=has_no_containers,
            said=("closed md md0",)),
    missing("mdstat", "without /proc", "/proc/mdstat"),
    missing("transport of NVMe", "before Linux 4.8", "*/transport", fits=has_no_fabrics),
    missing("fast_io_fail_tmo", "before Linux 5.11", "*/fast_io_fail_tmo"),
    missing("recovery_tmo", "without iSCSI's transport class", "*/recovery_tmo"),
    missing("remove_single_major", "before Linux 3.14", "/sys/bus/rbd/remove_single_major",
            prepare=without_shared_major),
    Lack("hiding of PCI devices", "locked down: LOCKDOWN_PCI_ACCESS", errno.EPERM,
         (("pci_hide", "*"),)),
    Lack("reset of SCSI disks", "without an error handler: scsi_ioctl_reset()", errno.EINVAL,
         (("reset_scsi", "*"),), said=("does not let go",), costs=True),
    # Device mapper.
    Lack("messages to targets", "before dm 4.2: lookup_ioctl()", errno.ENOTTY,
         (("dm_message", "*"),)),
    Lack("key wipe", "before dm-crypt 1.4: crypt_message()", errno.EINVAL, (("dm_message", "*"),)),
    Lack("clearing of tables", "lookup_ioctl() in drivers/md/dm-ioctl.c", errno.ENOTTY,
         (("dm_clear", "*"),)),
    Lack("dm of our version", "another major number: check_version()", errno.EINVAL,
         tuple((name, "*") for name in (*DM, "dm_message")), said=(KEY_LEFT,), costs=True,
         fits=has_a_key),
    # File systems.
    Lack("freezing", "before Linux 2.6.29: do_vfs_ioctl()", errno.ENOTTY,
         (("freeze", "*"), ("thaw", "*"))),
    Lack("freezing of this file system", "ioctl_fsfreeze() in fs/ioctl.c", errno.EOPNOTSUPP,
         (("freeze", "*"), ("thaw", "*"))),
    Lack("keys in file systems", "before Linux 5.4", errno.ENOTTY, (("encryption_key", "*"),)),
    missing("btrfs in /sys", "before Linux 3.14", "/sys/fs/btrfs*"),
    missing("journal_task", "an old ext4", "/sys/fs/ext4/*"),
    missing("journals in /proc", "without /proc", "/proc/fs/jbd2*"),
    missing("mountinfo", "before Linux 2.6.26", "/proc/self/mountinfo",
            said=("cannot read the mounts",), costs=True),
    missing("block devices by class", "with CONFIG_SYSFS_DEPRECATED", "/sys/class/block",
            said=("cannot list the block devices", f"{KEY_LEFT}: nobody could look"), costs=True),
    # Keys.
    Lack("membarrier", "before Linux 4.3", errno.ENOSYS, (("wait_for_rcu", "*"),)),
    Lack("membarrier for all", "with nohz_full: kernel/sched/membarrier.c", errno.EINVAL,
         (("wait_for_rcu", "*"),)),
    missing("keyrings", "without CONFIG_KEYS", "/proc/keys", "/proc/key-users",
            "/proc/sys/kernel/keys/*", prepare=without_keyrings),
    missing("gc_delay", "without CONFIG_SYSCTL", "/proc/sys/kernel/keys/gc_delay"),
    missing("keys in /proc", "before Linux 4.0", "/proc/keys",
            said=("cannot see whether keys remain",)),
    missing("users of keys in /proc", "before Linux 4.0", "/proc/key-users",
            said=("cannot see whether keys remain", "cleared 1 keys")),
    Lack("efivarfs", "without CONFIG_EFIVAR_FS: get_fs_type()", errno.ENODEV,
         (("mount_api", "*"),)),
    missing("requests to the firmware", "without UEFI", "/sys/firmware/efi/*"),
    missing("sysrq", "without CONFIG_MAGIC_SYSRQ", "/proc/sysrq-trigger"),
)  # fmt: skip
