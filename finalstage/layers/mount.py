"""Mounts: unmounted; where that fails, the kernel's own file systems are detached, and others
made read-only."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOTCONN

from finalstage import mountinfo
from finalstage.bounded import bind
from finalstage.layers.filesystems import Survey
from finalstage.stack import Layer, covering
from finalstage.world import block_id, mount_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.mountinfo import Entry
    from finalstage.stack import Stack
    from finalstage.world import World

KIND = "mount"

API_FILE_SYSTEMS = frozenset(
    "autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl"
    " hugetlbfs mqueue nfsd nsfs proc pstore ramfs resctrl rpc_pipefs securityfs selinuxfs"
    " smackfs sysfs tmpfs tracefs".split()
)
"""File systems without a store of their own: there is nothing in them to lose."""


FORCED_TIMES, FORCED_SECONDS = 20, 0.1
"""How often what hangs is told to give up before it is only taken from its place."""

ASIDE = "/aside"
"""Where mounts are moved to that stay, so that what they are mounted on can go."""

NETWORK_FILE_SYSTEMS = frozenset(("9p", "afs", "ceph", "cifs", "nfs", "nfs4", "smb3"))


class Mount(Layer):
    """A mount; `options` are those of the mount itself, `writable` is about its file system."""

    target: str = ""
    options: str = ""
    super_options: str = ""
    writable: bool = True

    @property
    def panics(self) -> bool:
        """Whether an I/O error of it would panic the kernel, and leave every key in memory."""
        return "errors=panic" in self.super_options.split(",")

    @property
    def has_server(self) -> bool:
        """Whether a process or another machine has to answer whatever is asked of it."""
        return self.type.startswith("fuse") or self.type in NETWORK_FILE_SYSTEMS

    @property
    def is_api(self) -> bool:
        """Whether the file system is only an interface to the kernel, or lives in memory."""
        return self.type in API_FILE_SYSTEMS


def scan(kernel: Kernel, world: World) -> list[Mount]:
    """Every line of mountinfo."""
    survey = Survey(kernel, world)
    hidden_by = _hiding(world.mounts)
    devices = {block.device for block in world.blocks}
    names = {layer.id: layer.name for layer in world.before}
    found = []
    for entry in world.mounts:
        ground = survey.ground(entry)
        places = (mount_id(entry.parent), *hidden_by.get(entry.id, ()))
        found.append(
            Mount(
                id=mount_id(entry.id),
                kind=KIND,
                type=entry.fstype,
                name=_name(world, entry, names),
                below=places
                + ((block_id(entry.device),) if entry.device in devices else ())
                + ground.below,
                leans_on=ground.leans_on,
                places=places,
                device=entry.device,
                shown=entry.fstype not in API_FILE_SYSTEMS,
                target=entry.target,
                options=entry.options,
                super_options=entry.super_options,
                writable="ro" not in entry.super_options.split(","),
            )
        )
    return found


def _name(world: World, entry: Entry, names: dict[str, str]) -> str:
    """Return what a mount is called: what it was, where it has been moved aside."""
    if entry.target.startswith(f"{ASIDE}/"):
        return names.get(mount_id(entry.id), entry.target)
    return world.name_of(entry.target)


def _hiding(mounts: tuple[Entry, ...]) -> dict[int, list[str]]:
    """Return, for a mount that covers the places of others from above, the ids of those hidden.

    A mount at /a hides one at /a/b of the same parent, whichever came first, and all that is
    mounted on that: umount2 cannot find them until /a is gone, though in the kernel's eyes none of
    them stands on another.
    """
    children: dict[int, list[Entry]] = {}
    below_directory: dict[tuple[int, str], list[Entry]] = {}
    for entry in mounts:
        children.setdefault(entry.parent, []).append(entry)
        directory = entry.target
        while directory != "/":
            directory = directory.rpartition("/")[0] or "/"
            below_directory.setdefault((entry.parent, directory), []).append(entry)
    found: dict[int, list[str]] = {}
    for entry in mounts:
        hidden = list(below_directory.get((entry.parent, entry.target), ()))
        for lower in hidden:  # grows while it is walked
            hidden += children.get(lower.id, ())
        if hidden:
            found[entry.id] = [mount_id(lower.id) for lower in hidden]
    return found


def release(kernel: Kernel, layer: Layer) -> str:
    """Have a FUSE or network file system give up what it waits for, and leave the tree.

    That fails what is in flight, not what is still to be sent: nfs_umount_begin() in
    fs/nfs/super.c. So it is done again as long as somebody writes there, but not for ever.
    """
    assert isinstance(layer, Mount)
    if not layer.has_server:
        return ""
    for _ in range(FORCED_TIMES):
        if _leave(kernel, layer, detach=False):
            return "was given up"
        kernel.sleep(FORCED_SECONDS)
    _leave(kernel, layer, detach=True)
    return "was given up"


def _leave(kernel: Kernel, layer: Mount, detach: bool) -> bool:
    """Return whether a mount could be taken from its place by force. Who does that may have to
    wait for the server for minutes afterwards, which is nothing to wait for."""
    target = _target(kernel, layer)  # it may just have been moved aside
    if not target:
        return True
    call = kernel.start("give up", bind(kernel.umount, target, detach, True))
    while not kernel.wait((call,), FORCED_SECONDS) and _is_there(kernel, layer):
        pass
    if isinstance(call.error, OSError) and call.error.errno == EBUSY:
        return False
    if call.error:
        raise call.error
    return True


def defuse(kernel: Kernel, layer: Mount) -> None:
    """Have a file system that would panic at an I/O error go on instead.

    ext4 takes the option without writing anything: __ext4_remount() in fs/ext4/super.c.
    """
    kernel.remount(layer.target, layer.options, not layer.writable, "errors=continue")


def close(kernel: Kernel, layer: Layer) -> None:
    """Unmount it; one of the kernel's own that is in use is taken from its place at least."""
    assert isinstance(layer, Mount)
    try:
        unmount(kernel, layer)
    except OSError as error:
        if not layer.is_api or error.errno != EBUSY:
            raise
        kernel.umount(layer.target, detach=True)


def unmount(kernel: Kernel, layer: Mount) -> None:
    """Unmount it, which writes out its file system if it was the last mount of it.

    A frozen one would outlive its last mount, and hold its device: freeze_super() in fs/super.c
    takes a reference. So it goes on first, whoever froze it.
    """
    if layer.has_server:
        _write_to_server(kernel, layer)
    elif not layer.is_api:
        try:
            kernel.thaw(layer.target)
        except OSError:
            pass  # it is not frozen, as nearly always, or cannot be
    try:
        kernel.umount(layer.target)
    except OSError as error:
        if error.errno == EINVAL and not _is_there(kernel, layer):
            return  # it has gone with its peer, since they share events
        raise


def in_the_way(stack: Stack) -> list[tuple[Mount, Mount]]:
    """Return the mounts without which others could go, each with the one that it is on; those that
    are mounted on others come before these.

    What a swap area lies on stays: the kernel calls that by its path.
    """
    by_id = stack.by_id
    depth = stack.depths
    areas = (layer.id for layer in stack.layers if layer.kind == "swap")
    swapped_to = covering(stack, areas)
    found = []
    for layer in sorted(stack.layers, key=lambda layer: depth.get(layer.id, len(depth))):
        if isinstance(layer, Mount) and not layer.is_api and layer.id not in swapped_to:
            parent = by_id.get(layer.below[0])
            if isinstance(parent, Mount):
                found.append((layer, parent))
    return found


def move_aside(kernel: Kernel, layer: Mount, parent: Mount) -> None:
    """Move a mount into the tree: what it was on is no longer held by it. It may be in use."""
    place = f"{ASIDE}/{layer.id.partition(':')[2]}"
    kernel.move_mount(layer.target, place, parent.target)


def _is_there(kernel: Kernel, layer: Mount) -> bool:
    return bool(_target(kernel, layer))


def _target(kernel: Kernel, layer: Mount) -> str:
    """Return where a mount is now, or "" if it is nowhere any more."""
    mounts = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    return next((entry.target for entry in mounts if mount_id(entry.id) == layer.id), "")


def _write_to_server(kernel: Kernel, layer: Mount) -> None:
    """Write out what has a server while it can still be reached: umount2 takes a mount from its
    place before it writes, and then nobody could have it give up any more."""
    try:
        kernel.syncfs(layer.target)
    except OSError as error:
        if error.errno != ENOTCONN:  # a FUSE server that has ended: nothing can be written
            raise


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out the file system, and let nobody write to it any more.

    What has a server is only written out. What else writes there is not for us to say.
    Where a file is open for writing the kernel refuses to make it read-only. Freezing then does
    as well: it writes all out, and leaves the file system clean on its disk.
    """
    assert isinstance(layer, Mount)
    if not layer.writable or layer.is_api:
        return
    if layer.has_server:
        _write_to_server(kernel, layer)
        return
    try:
        kernel.remount(layer.target, layer.options, readonly=True)
    except OSError as refusal:
        try:
            kernel.freeze(layer.target)
        except OSError:
            kernel.syncfs(layer.target)
            raise refusal from None
