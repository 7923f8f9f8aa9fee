"""A small file on a vfat file system, such as the EFI system partition: where it lies, and how it
is written when that has been unmounted.

No other kind is written to: what has a journal would be replayed, and may be much larger.
"""

from __future__ import annotations

from errno import EPERM

from finalstage import mountinfo
from finalstage.kernel import SECTOR
from finalstage.world import World, holding_mount, mount_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

KIND = "vfat"

WITHIN = "//"
"""What stands between a device and a path on it. `finalstage stage` writes places so: where init
unmounts what it can, nobody sees later on what a file lay."""

PLACE = "/vfat"
"""Where it is mounted in the tree meanwhile."""

SIGNATURE, AT_SIGNATURE = b"\x55\xaa", 510
AT_LENGTH, STATE, STATE_32, DIRTY = 22, 0x25, 0x41, 1
"""Offsets in its first sector: struct fat_boot_sector in <linux/msdos_fs.h>. The two bytes at
AT_LENGTH are 0 in FAT32 alone, whose state lies elsewhere. The kernel sets FAT_STATE_DIRTY as it
mounts it, and clears that as it unmounts it, unless it was set before: fat_set_state()."""


def refusal(words: str) -> OSError:
    """Return an error that says why a place will not do."""
    return OSError(EPERM, words)


def find(kernel: Kernel, path: str) -> tuple[str, str]:
    """Return the device that a file lies on, or would, as ``major:minor``, and its path there.
    OSError if that is no vfat file system which is mounted, or the path is one of a directory."""
    entries = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    id = holding_mount(World((), tuple(entries), (), ()), path)
    entry = next((entry for entry in entries if mount_id(entry.id) == id), None)
    if entry is None or entry.fstype != KIND:
        on = f"on {entry.fstype}" if entry else "nowhere"
        raise refusal(f"it is no block device, and lies {on}, not on vfat")
    if _is_directory(kernel, path):
        raise refusal("it is a directory")
    # A link, or another mount above, would lead to another file system.
    if kernel.stat(path.rpartition("/")[0]).device != entry.device:
        raise refusal("its folder is not on what is mounted there; name it without links")
    return entry.device, entry.root.rstrip("/") + path[len(entry.target.rstrip("/")) :]


def _is_directory(kernel: Kernel, path: str) -> bool:
    try:
        return kernel.stat(path).is_directory
    except FileNotFoundError:
        return False


def put(kernel: Kernel, device: str, file: str, data: bytes) -> None:
    """Have a file hold just this, on a vfat file system that is mounted nowhere, and have its disk
    write that out. OSError, and nothing is written, if anybody has it, or if it was not unmounted
    cleanly."""
    if not file.isascii():
        raise refusal("its name is not ASCII, and may mean another file here")
    _refuse_unclean(kernel.read_device(device, SECTOR))
    kernel.mount_device(device, KIND, PLACE)
    try:
        kernel.replace_file(f"{PLACE}/{file.lstrip('/')}", data)
    finally:
        kernel.umount(PLACE)
    kernel.flush(device)


def _refuse_unclean(sector: bytes) -> None:
    """Raise OSError unless this is how a vfat file system begins that is whole."""
    if sector[AT_SIGNATURE : AT_SIGNATURE + 2] != SIGNATURE:
        raise refusal("there is no vfat on its device")
    state = STATE if any(sector[AT_LENGTH : AT_LENGTH + 2]) else STATE_32
    if sector[state] & DIRTY:
        raise refusal("its file system was not unmounted cleanly once; repair it with fsck.vfat -a")
