"""LVM beside us: which volumes are its own, who shares them, and the locks that its tools take."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from errno import EROFS
from pathlib import Path

from finalstage.bounded import bind
from finalstage.cli.close import lock_files, volume_groups
from finalstage.cli.close.volume_groups import VolumeGroup
from finalstage.cli.errors import RefusalError
from finalstage.cli.targets import kernel_name, volume_of
from finalstage.kernel import Kernel
from finalstage.layers.dm import Dm
from finalstage.processes import read_process
from finalstage.stack import Layer, Stack
from finalstage.world import describe, text_if_there

CONFIGURATION = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")
LOCKS = "/run/lock/lvm"
"""Where the locks are files, if `locking_dir` in the configuration does not say otherwise."""

LOCK_SECONDS = 10.0
"""How long a lock is waited for."""

READ_SECONDS = 5.0
"""How long a physical volume may take to be read: it may lie on what hangs."""

ID = slice(4, 36)
"""Where the id of the volume group stands in the UUID of a mapped device: LVM- and two ids."""


def is_volume(layer: Layer) -> bool:
    """Whether a layer is a volume of LVM, or a hidden part of one."""
    return volume_of(layer) is not None


def groups(layers: Iterable[Layer]) -> dict[str, list[Dm]]:
    """Return the volumes among some layers, by the names of their groups, in alphabetical order:
    in which LVM takes locks too."""
    found: dict[str, list[Dm]] = {}
    for layer in layers:
        name = volume_of(layer)
        if name and isinstance(layer, Dm):
            found.setdefault(name[0], []).append(layer)
    return dict(sorted(found.items()))


def physical_volumes(stack: Stack, volume: Dm) -> list[Layer]:
    """Return what a volume lies on in the end that is no volume of the same group."""
    found: dict[str, Layer] = {}
    todo = [volume.id]
    for id in todo:  # grows while it is walked
        for lower in (stack.by_id[x] for x in stack.by_id[id].below if x in stack.by_id):
            if isinstance(lower, Dm) and lower.uuid[ID] == volume.uuid[ID] and is_volume(lower):
                todo.append(lower.id)
            else:
                found[lower.id] = lower
    return list(found.values())


def group_of(kernel: Kernel, stack: Stack, volume: Dm) -> VolumeGroup | None:
    """Return what the first physical volume that can be read says of the group of a volume; None if
    that cannot be known."""
    for layer in physical_volumes(stack, volume):
        name = kernel_name(kernel, layer).replace("!", "/")  # of a driver with a folder in /dev
        call = kernel.start(f"read {layer.title}", bind(_read_group, f"/dev/{name}"))
        kernel.wait((call,), READ_SECONDS)
        if isinstance(call.value, VolumeGroup) and call.value.id == volume.uuid[ID]:
            return call.value
    return None


def _read_group(path: str) -> VolumeGroup | None:
    with open(path, "rb", buffering=0) as device:
        # Not what was once read: another machine may have written since.
        os.posix_fadvise(device.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return volume_groups.read_group(lambda at, size: os.pread(device.fileno(), size, at))


@contextmanager
def locked(kernel: Kernel, names: Sequence[str]) -> Iterator[None]:
    """Hold the locks of volume groups as `vgchange` does: nobody changes or activates them.

    As LVM does, first the right to be the next one to write is taken. Raises RefusalError if
    somebody holds one for LOCK_SECONDS. Source: lib/locking/file_locking.c and
    lib/misc/lvm-flock.c of lvm2.
    """
    folder = Path(setting("locking_dir") or LOCKS)
    with ExitStack() as locks:
        for name in names:
            until = kernel.now() + LOCK_SECONDS
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                with lock_files.held(kernel, folder / f"V_{name}:aux", until):
                    locks.enter_context(lock_files.held(kernel, folder / f"V_{name}", until))
            except TimeoutError:
                raise RefusalError(
                    f"volume group {name} is locked by {_holders(kernel, folder, name)}",
                    "wait for it, or end it, and try again",
                ) from None
            except OSError as error:
                if error.errno == EROFS:
                    continue  # nobody else can lock anything there either
                raise RefusalError(
                    f"cannot lock volume group {name} in {folder}: {describe(error)}",
                    f"make {folder} a directory that can be written to",
                ) from None
        yield


def setting(name: str) -> str:
    """Return what LVM's configuration says to an option, "" where it leaves it as it is."""
    found = ""
    for path in CONFIGURATION:
        try:
            said = Path(path).read_text(errors="replace")
        except OSError:
            continue  # a machine without that file
        for match in re.finditer(rf'^[^#\n]*\b{name}\s*=\s*"?([^"\s]+)', said, re.MULTILINE):
            found = match[1]
    return found


def _holders(kernel: Kernel, folder: Path, name: str) -> str:
    """Return who holds a lock, or waits to write: the kernel knows by which inode."""
    inodes = set()
    for path in (folder / f"V_{name}", folder / f"V_{name}:aux"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        inodes.add(f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}")
    titles = []
    for line in text_if_there(kernel, "/proc/locks").splitlines():
        # NUMBER: FLOCK ADVISORY WRITE PID DEVICE:INODE 0 EOF. One that waits has -> behind NUMBER:,
        # and so no inode in that place.
        fields = line.split()
        if len(fields) < 6 or fields[5] not in inodes:
            continue
        try:
            titles.append(read_process(kernel, int(fields[4])).title)
        except (OSError, ValueError, IndexError):
            titles.append(f"process {fields[4]}")  # it has ended, and left it to a child
    return " and ".join(dict.fromkeys(titles)) or "a process that cannot be seen from here"
