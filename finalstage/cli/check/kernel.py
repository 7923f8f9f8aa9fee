"""Has the kernel all that the stage uses of it, and is it allowed to use that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from finalstage import keys, mountinfo
from finalstage.cli.check.readiness import OK, PROBLEM, WARNING, Finding, Machine, hidden
from finalstage.kernel import Kernel
from finalstage.world import text

MOUNT_PROC = "mount -t proc proc /proc"


@dataclass(frozen=True)
class Interface:
    """A file of the kernel's, or several, and what is not done without it."""

    name: str
    paths: tuple[str, ...]
    verdict: str
    without: str
    remedy: str


INTERFACES = (
    Interface(
        "mountinfo",
        ("/proc/self/mountinfo",),
        PROBLEM,
        "no mount can be seen, and none will be unmounted",
        MOUNT_PROC,
    ),
    Interface(
        "block devices by class",
        ("/sys/class/block",),
        PROBLEM,
        "no block device can be seen, so none is closed and no key is wiped",
        "mount -t sysfs sys /sys; or a kernel without CONFIG_SYSFS_DEPRECATED",
    ),
    Interface(
        "command line",
        ("/proc/cmdline",),
        WARNING,
        "options on the kernel's command line are not heeded",
        MOUNT_PROC,
    ),
    Interface(
        "sysctl",
        ("/proc/sys/vm/drop_caches", "/proc/sys/vm/panic_on_oom"),
        WARNING,
        "free memory is not overwritten: plaintext may remain",
        "a kernel with CONFIG_SYSCTL",
    ),
    Interface(
        "oom_score_adj",
        ("/proc/self/oom_score_adj",),
        WARNING,
        "free memory is not overwritten: plaintext may remain",
        "Linux 2.6.36 or later",
    ),
    Interface(
        "sysrq",
        ("/proc/sysrq-trigger",),
        WARNING,
        "nothing is left to try where reboot(2) hangs",
        "a kernel with CONFIG_MAGIC_SYSRQ",
    ),
    Interface(
        "log",
        ("/dev/kmsg",),
        WARNING,
        "what happens is only said on the console",
        "a kernel with CONFIG_PRINTK, and devtmpfs at /dev",
    ),
    Interface(
        "console",
        ("/dev/console",),
        WARNING,
        "nobody sees what happens",
        "mknod /dev/console c 5 1, or devtmpfs at /dev",
    ),
)
"""Those whose lack is of consequence. tests/sim/lacking.py has all that the stage does without."""

CAPABILITIES = {14: "CAP_IPC_LOCK", 21: "CAP_SYS_ADMIN", 22: "CAP_SYS_BOOT"}
"""What the stage cannot do without, and a container takes from its init: <linux/capability.h>."""

LOCKDOWN = "/sys/kernel/security/lockdown"
SELINUX = "/sys/fs/selinux/enforce"
SYSCTL = "/proc/sys"


def look(machine: Machine) -> Iterator[Finding]:
    """Look for each of them, and for what may forbid their use."""
    kernel = machine.kernel
    missing = [each for each in INTERFACES if not all(is_there(kernel, x) for x in each.paths)]
    for each in missing:
        which = next(path for path in each.paths if not is_there(kernel, path))
        yield Finding(each.name, each.verdict, f"there is no {which}: {each.without}", each.remedy)
    for path in keys.unseen(kernel):
        found = f"there is no {path}: nobody can see whether keyrings keep a key"
        yield Finding("keys in /proc", WARNING, found, "Linux 4.0 or later")
    if not missing:
        count = sum(len(each.paths) for each in INTERFACES)
        yield Finding(
            "interfaces", OK, f"all {count} files of the kernel's that it needs are there"
        )
    yield from _writable(kernel)
    yield _capabilities(kernel)
    yield from _security(kernel)


def is_there(kernel: Kernel, path: str) -> bool:
    """Whether something is at a path."""
    try:
        kernel.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it is there, and not for us
    return True


def _writable(kernel: Kernel) -> Iterator[Finding]:
    """As in a container, where settings can be read and not written."""
    try:
        mounts = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    except OSError:
        return  # which was said above
    over = [mount for mount in mounts if mount.target in ("/proc", SYSCTL)]
    if over and "ro" in over[-1].options.split(","):
        found = f"{over[-1].target} is read-only: free memory is not overwritten"
        yield Finding("settings", WARNING, found, f"mount -o remount,rw {over[-1].target}")


def _capabilities(kernel: Kernel) -> Finding:
    """What PID 1 may do, which becomes the stage or starts it: proc(5), CapEff."""
    name = "rights"
    try:
        lines = text(kernel, "/proc/1/status").splitlines()
    except OSError:
        return hidden(name, "what PID 1 is allowed")
    for line in lines:
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            lacking = [word for bit, word in CAPABILITIES.items() if not mask >> bit & 1]
            if lacking:
                found = f"PID 1 has no {', '.join(lacking)}, as in a container"
                return Finding(name, PROBLEM, found, "install it on the host instead")
            return Finding(name, OK, "PID 1 may unmount, lock memory and reboot")
    return hidden(name, "what PID 1 is allowed")


def _security(kernel: Kernel) -> Iterator[Finding]:
    """Security modules that may be in the way."""
    if said(kernel, SELINUX) == "1":
        found = "SELinux is enforcing: whether its policy lets init execute the tree was not tried"
        remedy = "shut down once, and look for avc: in the log of that boot"
        yield Finding("SELinux", WARNING, found, remedy)
    modes = said(kernel, LOCKDOWN)
    level = modes.partition("[")[2].partition("]")[0]
    if level not in ("", "none"):
        found = f"the kernel is locked down ({level}): an NVMe disk that hangs cannot be cut off"
        yield Finding("lockdown", OK, found)


def said(kernel: Kernel, path: str) -> str:
    """Return what a one-line file says; "" where it does not."""
    try:
        return text(kernel, path)
    except OSError:
        return ""
