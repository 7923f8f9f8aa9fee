"""Copies of keys outside of the devices that use them: keyrings, and files in memory.

A keyring outlives the login of its user, and an expired key stays until it is collected. There
the passphrase caches of cryptsetup and systemd are, keys of fscrypt, tickets of Kerberos.
Source: Documentation/security/keys/core.rst, proc(5) on /proc/keys.
"""

from __future__ import annotations

from finalstage import mountinfo
from finalstage.bounded import bounded
from finalstage.lines import Line
from finalstage.value import Value
from finalstage.world import describe, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from finalstage.kernel import Kernel

KEYRING_SECONDS = 5.0
COLLECT_SECONDS = 2.0
RCU_SECONDS = 1.0
RCU_PERIODS = 0.1
FIRST_LOOK, SLOWEST_LOOK = 0.002, 0.05
FILE_SECONDS = 5.0

SECRET_TYPES = frozenset(("user", "logon", "big_key", "encrypted", "trusted", "rxrpc", "ceph"))
"""Types of keys whose payload is a secret. Others hold public keys, names and numbers."""

KEYS, USERS = "/proc/keys", "/proc/key-users"
"""Before Linux 4.0 the first was not always there: key_proc_init() in security/keys/proc.c."""

GC_DELAY = "/proc/sys/kernel/keys/gc_delay"

KEY_FILES = ("/run/cryptsetup-keys.d", "/run/cryptsetup-initramfs")
"""Where keys lie in files while a machine runs: crypttab(5)."""

IN_MEMORY = frozenset(("tmpfs", "ramfs", "rootfs"))
"""File systems in which to overwrite a file is to overwrite the memory that it is in."""

ROOTS = ("", "/oldroot")
MOST_FILES = 1000
DEEPEST = 4


class Key(Value):
    """A line of /proc/keys. `flags` as there: I instantiated, R revoked, D dead, i invalidated."""

    serial: int
    flags: str
    owner: int
    type: str
    description: str

    @property
    def is_secret(self) -> bool:
        """Whether its payload is a secret and still there."""
        return self.type in SECRET_TYPES and "I" in self.flags and not set(self.flags) & set("RDi")


def clear(kernel: Kernel, until: float) -> list[Line]:
    """Clear the keyrings of all users and have the kernel collect what was in them.

    To be called when all devices are closed or sealed: what then still holds a key is named. It
    never raises, and returns by `until`.
    """
    cleared: dict[int, int] = {}
    problems: list[str] = []
    call = kernel.start("clear keyrings", lambda: _clear_all(kernel, cleared, problems))
    kernel.wait((call,), min(KEYRING_SECONDS, until - kernel.now()))
    if not call.done:
        problems.append(f"no answer in {kernel.now() - call.started:.0f} s")
    elif call.error:
        problems.append(describe(call.error))
    lines = [Line(f"cannot clear all keyrings: {problem}", bad=True) for problem in problems]
    lines += [
        Line(f"cannot see whether keys remain: there is no {path}", bad=True)
        for path in unseen(kernel)
    ]
    secrets, others = _collected(kernel, min(until, kernel.now() + COLLECT_SECONDS))
    count = sum(cleared.values())
    if count:
        users = sum(bool(number) for number in cleared.values())
        lines.append(Line(f"cleared {count} keys from the keyrings of {users} users"))
    if others:
        lines.append(Line(f"keyrings are still in use by {', '.join(others)}", bad=True))
    return lines + [Line(f"A KEY MAY REMAIN IN MEMORY: {what}", bad=True) for what in secrets]


def _clear_all(kernel: Kernel, cleared: dict[int, int], problems: list[str]) -> None:
    """Clear everybody's keyrings, root's last, since as root everybody's quota is seen."""
    try:
        kernel.write(GC_DELAY, b"0")
    except FileNotFoundError:
        pass  # a kernel without keyrings, or without settings
    except OSError as error:
        problems.append(f"expired keys stay a while: {describe(error)}")
    for uid in sorted({0, *users(kernel)}, reverse=True):
        try:
            cleared[uid] = kernel.clear_keyrings(uid)
        except OSError as error:
            problems.append(f"user {uid}: {describe(error)}")
    _revoke_others(kernel)


def _revoke_others(kernel: Kernel) -> None:
    """Revoke the secrets of root's that no keyring of a user has: the kernel has some of its own,
    such as the PIN for disks that encrypt themselves (block/sed-opal.c, since 6.7), and holds them
    in a way that they outlive their keyring. What cannot be revoked is named later."""
    for key in visible(kernel):
        if key.is_secret:
            try:
                kernel.revoke_key(key.serial)
            except OSError:
                continue  # it may have gone meanwhile


def users(kernel: Kernel) -> dict[int, int]:
    """Return how many keys each user has: ``uid: usage keys/instantiated …``."""
    found = {}
    try:
        lines = text(kernel, USERS).splitlines()
    except OSError:
        return {}
    for line in lines:
        uid, _, rest = line.partition(":")
        fields = rest.split()
        if uid.strip().isdigit() and len(fields) > 1 and fields[1].partition("/")[0].isdigit():
            found[int(uid)] = int(fields[1].partition("/")[0])
    return found


def visible(kernel: Kernel) -> list[Key]:
    """Return the keys that root can see."""
    found = []
    try:
        lines = text(kernel, KEYS).splitlines()
    except OSError:
        return []
    for line in lines:
        fields = line.split(None, 8)
        if len(fields) == 9:
            try:
                serial, owner = int(fields[0], 16), int(fields[5])
            except ValueError:
                continue
            found.append(Key(serial, fields[1], owner, fields[7], fields[8].strip()))
    return found


def unseen(kernel: Kernel) -> list[str]:
    """Return what is missing of that by which keys are seen; a kernel without keyrings has nothing
    of it."""
    missing = [path for path in (KEYS, USERS, GC_DELAY) if not _is_there(kernel, path)]
    return [path for path in missing if path != GC_DELAY and len(missing) < 3]


def _is_there(kernel: Kernel, path: str) -> bool:
    try:
        kernel.read(path)
    except OSError:
        return False
    return True


def _collected(kernel: Kernel, until: float) -> tuple[list[str], list[str]]:
    """Wait until the kernel has collected everything; return the secrets that it keeps of root's,
    and which other users have something: a count that a keyring is in, too, if a process that
    could not be ended has one."""
    pause = FIRST_LOOK
    while True:
        secrets = [f"{key.type} {key.description}" for key in visible(kernel) if key.is_secret]
        others = [f"user {uid}" for uid, count in users(kernel).items() if uid and count]
        if not (secrets or others) or kernel.now() + pause >= until:
            return secrets, others
        kernel.sleep(pause)
        pause = min(2 * pause, SLOWEST_LOOK)


def let_go(kernel: Kernel, until: float) -> None:
    """Wait for what the kernel frees after `clear`: a key is taken off the lists, then RCU passes,
    and only then its payload is overwritten: key_garbage_collector() in security/keys/gc.c.

    Twice, since the first wait may end with a period that was under way as the key was taken off.
    A kernel that cannot be asked for it (before 4.3, or with processors that have no tick) gets the
    time for some periods instead.
    """
    for _ in range(2):
        if bounded(kernel, "let go", kernel.wait_for_rcu, RCU_SECONDS, until):
            kernel.sleep(max(0.0, min(RCU_PERIODS, until - kernel.now())))
    kernel.sleep(FIRST_LOOK)


def wipe_files(kernel: Kernel, until: float, extra: Sequence[str] = ()) -> list[Line]:
    """Overwrite and remove key files that lie in memory; `extra` are more files or directories.

    To be called when processes have ended and nothing has been unmounted yet.
    """
    wiped: list[str] = []
    problems: list[str] = []
    call = kernel.start("wipe key files", lambda: _wipe_all(kernel, extra, wiped, problems))
    kernel.wait((call,), min(FILE_SECONDS, until - kernel.now()))
    if not call.done:
        problems.append(f"no answer in {kernel.now() - call.started:.0f} s")
    elif call.error:
        problems.append(describe(call.error))
    lines = [Line(f"A KEY FILE MAY REMAIN: {problem}", bad=True) for problem in problems]
    if wiped:
        shown = ", ".join(wiped[:3]) + (f" and {len(wiped) - 3} more" if wiped[3:] else "")
        lines.append(Line(f"overwrote the key files {shown}"))
    return lines


def _wipe_all(kernel: Kernel, extra: Sequence[str], wiped: list[str], problems: list[str]) -> None:
    mounts = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    in_memory = {mount.device for mount in mounts if mount.fstype in IN_MEMORY}
    for root in ROOTS:
        for place in (*KEY_FILES, *extra):
            for path in _files(kernel, root + place):
                name = path[len(root) :]
                try:
                    if kernel.stat(path).device in in_memory:
                        kernel.overwrite_file(path)
                        wiped.append(name)
                    elif place in extra:
                        problems.append(f"{name} does not lie in memory")
                except FileNotFoundError:
                    continue  # the same directory below another root
                except OSError as error:
                    problems.append(f"{name}: {describe(error)}")


def _files(kernel: Kernel, place: str) -> Iterator[str]:
    """Yield a file, or all files below a directory."""
    todo = [(place, 0)]
    for _ in range(MOST_FILES):
        if not todo:
            return
        path, depth = todo.pop()
        try:
            names = kernel.listdir(path)
        except NotADirectoryError:
            yield path
        except OSError:
            continue
        else:
            if depth < DEEPEST:
                todo += [(f"{path}/{name}", depth + 1) for name in names]
