"""What the kernel shows of a machine, read once a scan: block devices, mounts, swap areas.

The layers' modules turn it into layers. Sources: Documentation/ABI/stable/sysfs-block,
Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

from finalstage import mountinfo
from finalstage.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

BLOCKS = "/sys/class/block"


class Block(Value):
    """A block device: its kernel name, ``major:minor``, sectors, and what it is made of.

    `entries` are the names in its directory in /sys; they tell what it is (``dm``, ``md``,
    ``loop``, ``partition``). `parent` is the disk that a partition lies on.
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
    """A line of /proc/swaps."""

    path: str
    type: str


class World(Value):
    """All of it, and what could not be read. `old_root` is where the root of before hangs now, and
    `claimed` are the ids of the layers that other kinds have already seen in it."""

    blocks: tuple[Block, ...]
    mounts: tuple[mountinfo.Entry, ...]
    swaps: tuple[SwapArea, ...]
    problems: tuple[str, ...]
    old_root: str = ""
    claimed: frozenset[str] = frozenset()

    def name_of(self, path: str) -> str:
        """Return a path as it was called before the pivot."""
        if self.old_root and (path + "/").startswith(self.old_root + "/"):
            return path[len(self.old_root) :] or "/"
        return path


def block_id(device: str) -> str:
    """Return the id of the layer that is the block device ``major:minor``."""
    return f"block:{device}"


def mount_id(id: int) -> str:
    """Return the id of the layer that is a mount."""
    return f"mount:{id}"


def look(kernel: Kernel) -> World:
    """Read it. Never raises: what cannot be read is missing, and named in `problems`."""
    problems: list[str] = []
    return World(
        blocks=tuple(_blocks(kernel, problems)),
        mounts=tuple(_mounts(kernel, problems)),
        swaps=tuple(_swaps(kernel, problems)),
        problems=tuple(problems),
    )


def text(kernel: Kernel, path: str) -> str:
    """Return a one-line file without its newline."""
    return kernel.read(path).decode("utf-8", "surrogateescape").rstrip("\n")


def _blocks(kernel: Kernel, problems: list[str]) -> list[Block]:
    try:
        names = sorted(kernel.listdir(BLOCKS))
    except OSError as error:
        problems.append(f"cannot list the block devices: {describe(error)}")
        return []
    found = []
    for name in names:
        try:
            found.append(_block(kernel, name))
        except (OSError, ValueError) as error:
            # A device that goes while it is looked at is no problem, but then it is not listed.
            problems.append(f"cannot read block device {name}: {describe(error)}")
    numbers = {block.name: block.device for block in found}
    return [
        block.but(
            slaves=tuple(numbers[slave] for slave in block.slaves if slave in numbers),
            parent=numbers.get(block.parent, ""),
        )
        for block in found
    ]


def _block(kernel: Kernel, name: str) -> Block:
    """Read one device. Slaves and parent are still kernel names."""
    path = f"{BLOCKS}/{name}"
    entries = frozenset(kernel.listdir(path))
    return Block(
        name=name,
        device=text(kernel, f"{path}/dev"),
        sectors=int(text(kernel, f"{path}/size")),
        entries=entries,
        slaves=tuple(kernel.listdir(f"{path}/slaves")) if "slaves" in entries else (),
        parent=kernel.readlink(path).split("/")[-2] if "partition" in entries else "",
    )


def _mounts(kernel: Kernel, problems: list[str]) -> list[mountinfo.Entry]:
    try:
        return mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    except OSError as error:
        problems.append(f"cannot read the mounts: {describe(error)}")
        return []


def _swaps(kernel: Kernel, problems: list[str]) -> list[SwapArea]:
    try:
        lines = kernel.read("/proc/swaps").decode("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return []  # a kernel without swap
    except OSError as error:
        problems.append(f"cannot read the swap areas: {describe(error)}")
        return []
    rows = [line.split() for line in lines[1:]]
    return [SwapArea(mountinfo.unescape(row[0]), row[1]) for row in rows if len(row) > 1]


def describe(error: BaseException) -> str:
    """Return an error as people say it."""
    if isinstance(error, TimeoutError) and not error.errno:
        return str(error)
    if isinstance(error, OSError) and error.errno:
        reason = {16: "busy", 2: "not there", 6: "no such device", 5: "I/O error"}.get(error.errno)
        return reason or (error.strerror or "").lower()
    return f"{type(error).__name__}: {error}"
