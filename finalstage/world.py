"""What the kernel shows of a machine, read once a scan: block devices, mounts, swap areas.

The layers' modules turn it into layers. Sources: Documentation/ABI/stable/sysfs-block,
Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

from finalstage import mountinfo
from finalstage.value import Value, derived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from finalstage.kernel import Kernel
    from finalstage.stack import Layer

    T = TypeVar("T")

BLOCKS = "/sys/class/block"
MAPPED = frozenset(("dm", "slaves"))


class Block(Value):
    """A block device: its kernel name, ``major:minor``, sectors, and what it is made of.

    `entries` are the names in its directory in /sys; they tell what it is (``dm``, ``md``,
    ``loop``, ``partition``). `parent` is the disk that a partition lies on.

    Where something cannot be read, it has its name for a number, -1 sectors, or no entries: what
    stands on it, and what it stands on, is then still known.
    """

    name: str
    device: str
    sectors: int
    entries: frozenset[str]
    slaves: tuple[str, ...]
    parent: str

    @property
    def path(self) -> str:
        """Its directory in /sys."""
        return f"{BLOCKS}/{self.name}"


class SwapArea(Value):
    """A line of /proc/swaps. Sizes are in KiB."""

    path: str
    type: str
    used: int = 0
    size: int = 0


class World(Value):
    """All of it, and what could not be read. `old_root` is where the root of before hangs now, and
    `claimed` are the ids of the layers that other kinds have already seen in it. `before` are the
    layers of the last scan. It is `blind` where nobody can tell which block devices there are."""

    blocks: tuple[Block, ...]
    mounts: tuple[mountinfo.Entry, ...]
    swaps: tuple[SwapArea, ...]
    problems: tuple[str, ...]
    old_root: str = ""
    claimed: frozenset[str] = frozenset()
    before: tuple[Layer, ...] = ()
    blind: bool = False

    @derived
    def by_name(self) -> dict[str, str]:
        """The block devices by their kernel names."""
        return {block.name: block.device for block in self.blocks}

    @derived
    def mounted(self) -> dict[str, list[str]]:
        """The ids of the mounts at each place, without a slash at its end; the uppermost last."""
        found: dict[str, list[str]] = {}
        for mount in self.mounts:
            found.setdefault(mount.target.rstrip("/"), []).append(mount_id(mount.id))
        return found

    def name_of(self, path: str) -> str:
        """Return a path as it was called before the pivot."""
        if self.old_root and (path + "/").startswith(self.old_root + "/"):
            return path[len(self.old_root) :] or "/"
        return path

    def numbered(self, prefix: str) -> list[Block]:
        """Return the devices in use of a driver that names its own so, with a number behind."""
        size = len(prefix)
        return [
            block
            for block in self.blocks
            if block.sectors and block.name[:size] == prefix and block.name[size:].isdigit()
        ]


def block_id(device: str) -> str:
    """Return the id of the layer that is the block device ``major:minor``."""
    return f"block:{device}"


def mount_id(id: int) -> str:
    """Return the id of the layer that is a mount."""
    return f"mount:{id}"


def swap_id(path: str) -> str:
    """Return the id of the layer that is a swap area."""
    return f"swap:{path}"


def holding_mount(world: World, path: str) -> str:
    """Return the id of the mount that a path lies on: the last of those that reach deepest."""
    return (holding_mounts(world, path) or [""])[-1]


def holding_mounts(world: World, path: str) -> list[str]:
    """Return the ids of the mounts that a path may lie on, the uppermost last: those that reach
    deepest. There are several where one hides the others."""
    while path not in world.mounted:
        path, slash, _ = path.rpartition("/")
        if not slash:
            return []
    return world.mounted[path]


def look(kernel: Kernel) -> World:
    """Read it. Never raises: what cannot be read is missing, and named in `problems`."""
    problems: list[str] = []
    blocks = _blocks(kernel, problems)
    return World(
        blocks=tuple(blocks or ()),
        mounts=tuple(_mounts(kernel, problems)),
        swaps=tuple(swaps(kernel, problems)),
        problems=tuple(problems),
        blind=blocks is None,
    )


def text(kernel: Kernel, path: str) -> str:
    """Return a one-line file without its newline."""
    return kernel.read(path).decode("utf-8", "surrogateescape").rstrip("\n")


def text_if_there(kernel: Kernel, path: str) -> str:
    """Return the same, or "" where an older kernel has no such file."""
    try:
        return text(kernel, path)
    except FileNotFoundError:
        return ""


def _mapper_major(kernel: Kernel) -> str:
    """Return the major number of the device mapper's block devices, or "" where their directories
    have to be looked into all the same: bcache has one in those that it uses."""
    try:
        kernel.listdir("/sys/fs/bcache")
    except OSError:
        pass
    else:
        return ""
    try:
        blocks = text(kernel, "/proc/devices").partition("Block devices:\n")[2]
    except OSError:
        return ""
    for line in blocks.split("\n"):
        major, _, driver = line.strip().partition(" ")
        if driver == "device-mapper":
            return major
    return ""


def _blocks(kernel: Kernel, problems: list[str]) -> list[Block] | None:
    """Return the block devices, or None where they cannot be listed."""
    try:
        names = sorted(kernel.listdir(BLOCKS))
    except OSError as error:
        problems.append(f"cannot list the block devices: {describe(error)}")
        return None
    major = _mapper_major(kernel)
    found = [
        block
        for name in names
        if (block := _mapped(kernel, name, major) or _block(kernel, name, problems))
    ]
    numbers = {block.name: block.device for block in found}
    return [
        block.but(
            slaves=tuple(numbers[slave] for slave in block.slaves if slave in numbers),
            parent=numbers.get(block.parent, ""),
        )
        if block.slaves or block.parent
        else block
        for block in found
    ]


def _mapped(kernel: Kernel, name: str, major: str) -> Block | None:
    """Return a device of the device mapper, whose name tells its number: alloc_dev() in
    drivers/md/dm.c. None if it is something else, or cannot be read."""
    minor = name.removeprefix("dm-")
    if not major or minor == name or not minor.isdigit():
        return None
    try:
        slaves = kernel.listdir(f"{BLOCKS}/{name}/slaves")
    except OSError:
        return None
    return Block(name, f"{major}:{minor}", -1, MAPPED, tuple(sorted(slaves)), "")


def _block(kernel: Kernel, name: str, problems: list[str]) -> Block | None:
    """Read one device. Slaves and parent are still kernel names.

    One that goes while it is looked at is no problem, but then it is not listed.
    """
    path = f"{BLOCKS}/{name}"
    unread: list[Exception] = []

    def ask(read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except Exception as error:
            unread.append(error)
            return otherwise

    nothing: frozenset[str] = frozenset()
    entries = ask(lambda: frozenset(kernel.listdir(path)), nothing)
    if "hidden" in entries and "dev" not in entries:
        return None  # one of several paths to an NVMe disk, which nobody can open
    device = ask(lambda: _number(text(kernel, f"{path}/dev")), "")
    sectors = ask(lambda: int(text(kernel, f"{path}/size")), -1)
    slaves, parent = nothing, ""
    if "slaves" in entries or not entries:
        slaves = ask(lambda: frozenset(kernel.listdir(f"{path}/slaves")), nothing)
    if "partition" in entries:
        parent = ask(lambda: kernel.readlink(path).split("/")[-2], "")
    if unread:
        problems.append(f"cannot read block device {name}: {describe(unread[0])}")
    if not entries and not device:
        return None
    return Block(name, device or name, sectors, entries, tuple(sorted(slaves)), parent)


def _number(device: str) -> str:
    """Return ``major:minor`` as it is. ValueError if it is something else."""
    major, _, minor = device.partition(":")
    return f"{int(major)}:{int(minor)}"


def _mounts(kernel: Kernel, problems: list[str]) -> list[mountinfo.Entry]:
    try:
        return mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    except OSError as error:
        problems.append(f"cannot read the mounts: {describe(error)}")
        return []


def swaps(kernel: Kernel, problems: list[str]) -> list[SwapArea]:
    """Return the swap areas as they are now."""
    try:
        lines = text(kernel, "/proc/swaps").split("\n")
    except FileNotFoundError:
        return []  # a kernel without swap
    except OSError as error:
        problems.append(f"cannot read the swap areas: {describe(error)}")
        return []
    # Not whatever else Unicode takes for a space or a new line: a path may have that in it.
    rows = [line.replace("\t", " ").split(" ") for line in lines[1:]]
    rows = [[field for field in row if field] for row in rows]
    return [
        SwapArea(mountinfo.unescape(path), type, _number_of(used), _number_of(size))
        for path, type, size, used, *_ in ([*row, "", "", ""] for row in rows if len(row) > 1)
    ]


def _number_of(word: str) -> int:
    return int(word) if word.isdigit() else 0


def describe(error: BaseException) -> str:
    """Return an error as people say it."""
    if isinstance(error, TimeoutError) and not error.errno:
        return str(error)
    if isinstance(error, OSError) and error.errno:
        reason = {16: "busy", 2: "not there", 6: "no such device", 5: "I/O error"}.get(error.errno)
        return reason or (error.strerror or "").lower()
    return f"{type(error).__name__}: {error}"
