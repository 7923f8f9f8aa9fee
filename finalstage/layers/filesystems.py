"""What a file system lies on besides the device that mountinfo names: a function a type.

Another such file system is one more function, named in `OF_TYPE`. Where the kernel does not tell
(the second device of an f2fs or erofs), what lies below is found busy until the file system is
gone, and tried again then.
"""

from __future__ import annotations

from finalstage.mountinfo import unescape
from finalstage.value import Value, derived
from finalstage.world import block_id, mount_id, swap_id, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from finalstage.kernel import Kernel
    from finalstage.mountinfo import Entry
    from finalstage.world import Block, World

MEMORY = frozenset(("tmpfs", "ramfs", "rootfs", "devtmpfs"))
OVERLAY_DIRECTORIES = frozenset(("lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"))
DEVICE_OPTIONS = frozenset(("logdev", "rtdev", "jdev"))
SERVER_ID = "nfsd"
BTRFS = "/sys/fs/btrfs"
JOURNALS = "/proc/fs/jbd2"
NO_DEVICE = "0:0"


class Ground(Value):
    """Ids of layers: what a file system stands on, and what it leans on."""

    below: tuple[str, ...] = ()
    leans_on: tuple[str, ...] = ()


class Survey:
    """What file systems are looked up in, drawn from the world once a scan.

    `names` are those of the block devices by their numbers, `places` the mounts at each place by
    their age, named as before the pivot, and `carrying` the mounts below which a file system on a
    block device is mounted.
    """

    def __init__(self, kernel: Kernel, world: World) -> None:
        self.kernel = kernel
        self.world = world
        self.names = {block.device: block.name for block in world.blocks}
        self.mounts = {mount.id: mount for mount in world.mounts}
        self.places: dict[str, list[Entry]] = {}
        self.carrying: set[int] = set()
        for mount in world.mounts:
            self.places.setdefault(world.name_of(mount.target), []).append(mount)
            if mount.device in self.names or mount.fstype == "btrfs":
                parent = mount.parent
                while parent in self.mounts and parent not in self.carrying:
                    self.carrying.add(parent)
                    parent = self.mounts[parent].parent
        self._pools: list[tuple[str, ...]] | None = None

    def ground(self, entry: Entry) -> Ground:
        """Return what the file system of a mount lies on, as far as its type has a way to tell.

        Never raises: what cannot be read is as if it were not there.
        """
        look = OF_TYPE.get(entry.fstype)
        try:
            return look(self, entry) if look else Ground()
        except OSError:
            return Ground()

    def holders(self, path: str, but: Entry) -> list[Entry]:
        """Return the mount, other than `but`, that a path lay on when it was given to the kernel.

        What is now the root may then have been mounted somewhere: so names are tried also without
        what they begin with. One that does not begin at the root may lie on any of the mounts.
        """
        if not path.startswith("/"):
            return [mount for mount in self.world.mounts if mount.device in self.names]
        found = self._holder(path, but)
        rest = path
        while rest := rest[1:].partition("/")[2]:
            rest = f"/{rest}"
            if found and found.fstype not in MEMORY and self.world.name_of(found.target) != "/":
                break
            other = self._holder(rest, but)
            if other and self.world.name_of(other.target) != "/":
                found = other
        return [found] if found else []

    def _holder(self, path: str, but: Entry) -> Entry | None:
        while path:
            for mount in reversed(self.places.get(path, ())):
                if mount is not but:
                    return mount
            path = path.rpartition("/")[0] or "/" * (path != "/")
        return None

    def held_by_nobody(self) -> tuple[str, ...]:
        """Return the block devices on which nothing is seen to stand."""
        held = {slave for block in self.world.blocks for slave in block.slaves}
        held |= {block.parent for block in self.world.blocks}
        held |= {mount.device for mount in self.world.mounts}
        free = (block for block in self.world.blocks if block.sectors and block.device not in held)
        return tuple(block_id(block.device) for block in free)

    @derived
    def journals(self) -> tuple[str, ...] | None:
        """The block devices that are the journal of some ext4, whose entry is called as the device
        is. None if they cannot be seen."""
        try:
            names = self.kernel.listdir(JOURNALS)
        except OSError:
            return None
        devices = (self.world.by_name.get(name, "") for name in names)
        return tuple(block_id(device) for device in devices if device)

    def pools(self) -> list[tuple[str, ...]]:
        """Return the devices of each btrfs; those that are missing are not there, those of a seed
        are: btrfs_sysfs_add_device() in fs/btrfs/sysfs.c."""
        if self._pools is None:
            pools = []
            for uuid in self.kernel.listdir(BTRFS):
                try:
                    names = self.kernel.listdir(f"{BTRFS}/{uuid}/devices")
                except OSError:
                    continue  # "features" stands there too
                devices = (self.world.by_name.get(name, "") for name in sorted(names))
                pools.append(tuple(device for device in devices if device))
            self._pools = pools
        return self._pools


def device_of(kernel: Kernel, world: World, path: str) -> str:
    """Return the block device whose node a path was when it was given to the kernel, or "".

    Where there is no such node any more, its name is looked for among those of the devices.
    """
    for place in (path, world.old_root + path):
        try:
            special = kernel.stat(place).special
        except OSError:
            continue
        if special != NO_DEVICE:
            return special
    name = path.rpartition("/")[2]
    for block in world.blocks:
        if name == block.name or ("dm" in block.entries and name == _dm_name(kernel, block)):
            return block.device
    return ""


def _dm_name(kernel: Kernel, block: Block) -> str:
    try:
        return text(kernel, f"{block.path}/dm/name")
    except OSError:
        return ""  # it has just been removed


def options(text: str) -> list[tuple[str, str]]:
    """Return the super options of a line of mountinfo, names and values, as they stand there.

    A comma in a value is escaped: seq_show_option() in <linux/seq_file.h>.
    """
    pairs = (option.partition("=") for option in text.split(","))
    return [(name, value) for name, _, value in pairs]


def overlay_directories(super_options: str) -> list[str]:
    """Return all directories that an overlay is made of, by the names that its mounter gave.

    Several stand in one value, with colons between. A colon in a name has a backslash before it,
    which stands there as \\134, or since Linux 6.5 is itself escaped as a comma is. Sources:
    ovl_show_options() and ovl_unescape() in fs/overlayfs/super.c, later in params.c.
    """
    found = []
    for name, value in options(super_options):
        if name in OVERLAY_DIRECTORIES:
            marked = value.replace("\\134\\134", "\0b").replace("\\134:", "\0c")
            pieces = (unescape(piece) for piece in marked.split(":"))
            found += [piece.replace("\0b", "\\").replace("\0c", ":") for piece in pieces if piece]
    return found


def _with_other_devices(survey: Survey, entry: Entry) -> Ground:
    """Those that its options name: the log and the real-time device of an xfs, and the like.

    Sources: xfs_fs_show_options() in fs/xfs/xfs_super.c, show_options() in fs/reiserfs/super.c.
    """
    paths = [value for name, value in options(entry.super_options) if name in DEVICE_OPTIONS]
    devices = [device_of(survey.kernel, survey.world, unescape(path)) for path in paths]
    return Ground(below=tuple(block_id(device) for device in devices if device))


def _ext4(survey: Survey, entry: Entry) -> Ground:
    """The device of its journal, where that is not in the file system itself.

    Only the name of the journal's thread tells: it is that of the device, with the number of the
    journal's inode behind it if it has one. An older kernel does not tell the thread, and then it
    may be any of the journals. Sources: journal_task_show() in fs/ext4/sysfs.c,
    jbd2_journal_init_dev() and _inode() in fs/jbd2/journal.c.
    """
    journals = survey.journals
    if journals == ():
        return Ground()
    name = survey.names.get(entry.device, "")
    try:
        pid = text(survey.kernel, f"/sys/fs/ext4/{name}/journal_task")
    except FileNotFoundError:
        return Ground(leans_on=journals or ())
    if not pid.isdigit():
        return Ground()  # it has no journal
    thread = text(survey.kernel, f"/proc/{pid}/comm")
    journal = survey.world.by_name.get(thread.removeprefix("jbd2/"), "")
    return Ground(below=(block_id(journal),) if journal else ())


def _btrfs(survey: Survey, entry: Entry) -> Ground:
    """All of its devices, of which mountinfo names one by its path, and none by its number.

    Source: btrfs_show_devname() in fs/btrfs/super.c.
    """
    named = device_of(survey.kernel, survey.world, entry.source)
    try:
        pools = survey.pools()
    except OSError:  # before Linux 3.14
        return Ground(below=(block_id(named),) * bool(named), leans_on=survey.held_by_nobody())
    for devices in pools:
        if named in devices:
            return Ground(below=tuple(block_id(device) for device in devices))
    # Which of them it is cannot be seen; so none of their devices should go before it.
    every = (device for devices in pools for device in devices)
    return Ground(leans_on=tuple(block_id(device) for device in every))


def _overlay(survey: Survey, entry: Entry) -> Ground:
    """The mounts that hold its directories. It only leans on them: it has clones of its own, which
    nobody sees, and which keep the file systems alive when these mounts are gone.

    An overlay that is the root may have been made of mounts that are not to be seen any more. Then
    what such file systems lie on is among the block devices that nobody seems to hold. Source:
    clone_private_mount(), called in fs/overlayfs/super.c.
    """
    leans_on = []
    all_seen = True
    for path in overlay_directories(entry.super_options):
        holders = [mount for mount in survey.holders(path, but=entry) if mount is not entry]
        leans_on += [mount_id(mount.id) for mount in holders]
        all_seen = all_seen and any(mount.fstype not in MEMORY for mount in holders)
    if not all_seen:
        leans_on += survey.held_by_nobody()
    return Ground(leans_on=tuple(dict.fromkeys(leans_on)))


def _nfs(survey: Survey, entry: Entry) -> Ground:
    """The server, if it is this machine's own: what is still to be written goes through it."""
    for name, value in options(entry.super_options):
        if name == "addr" and _is_own(survey.kernel, value):
            return Ground(leans_on=(SERVER_ID,))
    return Ground()


def _is_own(kernel: Kernel, address: str) -> bool:
    """Whether an address is this machine's, as far as IPv4 is concerned."""
    if address.startswith("127.") or address == "::1":
        return True
    _, _, found = text(kernel, "/proc/net/fib_trie").partition(f"|-- {address}\n")
    return "host LOCAL" in found.partition("\n")[0]


def _tmpfs(survey: Survey, entry: Entry) -> Ground:
    """All swap areas: what is in them of its files is dropped with it, and would else be read back
    into memory, for which there may be no room.

    Not where a file system on a disk is mounted below it: that can hang, and swap should not wait.
    """
    if entry.id in survey.carrying:
        return Ground()
    return Ground(leans_on=tuple(swap_id(area.path) for area in survey.world.swaps))


OF_TYPE: dict[str, Callable[[Survey, Entry], Ground]] = {
    "btrfs": _btrfs,
    "ext3": _ext4,
    "ext4": _ext4,
    "nfs": _nfs,
    "nfs4": _nfs,
    "overlay": _overlay,
    "reiserfs": _with_other_devices,
    "tmpfs": _tmpfs,
    "xfs": _with_other_devices,
}
