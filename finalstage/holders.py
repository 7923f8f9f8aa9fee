"""Who holds a layer that would not close: for the report, since nobody can ask afterwards."""

from __future__ import annotations

from finalstage import mountinfo
from finalstage.processes import all_processes
from finalstage.value import Value
from finalstage.world import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from finalstage.kernel import Kernel
    from finalstage.processes import Process
    from finalstage.stack import Stack

MAPPED = "mapped file"
TARGETS = ("nvmet", "target_core_file", "target_core_iblock", "target_core_pscsi")


class Use(Value):
    """That a process uses a file on a device, or with `is_node` the device itself. `path` is the
    file's, or the link in /proc that leads to it."""

    device: str
    how: str
    path: str
    is_node: bool = False

    @property
    def is_link(self) -> bool:
        """Whether `path` is only the link to the file."""
        return self.how != MAPPED


def find(kernel: Kernel, stack: Stack) -> dict[str, list[str]]:
    """Return, for the layers that have any, their holders in words, by the layers' ids.

    Can hang, on a process that the kernel holds in a page fault: to be run aside.
    """
    names = {layer.id: layer.title for layer in stack.layers}
    found = {id: [names[user] for user in users] for id, users in stack.above.items() if users}
    # Of several mounts of a file system the first: the others are mostly there for somebody else.
    mounts = {layer.device: layer.id for layer in reversed(stack.layers) if layer.kind == "mount"}
    devices = {layer.device: layer.id for layer in stack.layers if layer.kind != "mount"}
    namespaces: dict[str, Process] = {}
    unseen = [f"perhaps {layer.title}" for layer in stack.layers if layer.holds_unseen]
    unseen += [f"perhaps {name}, which serves other machines" for name in servers(kernel)]
    own = _namespace(kernel, kernel.pid)
    for process in all_processes(kernel):
        if process.pid == kernel.pid:
            continue
        for use in uses(kernel, process):
            id = mounts.get(use.device) or devices.get(use.device)
            words = f"{process.title} ({use.how})"
            if id and words not in found.setdefault(id, []):
                found[id].append(words)
        namespace = _namespace(kernel, process.pid)
        if namespace and namespace != own:
            namespaces.setdefault(namespace, process)
        if any(opened != own for opened in _open_namespaces(kernel, process)):
            unseen.append(f"a mount namespace that {process.title} has open")
    for process in namespaces.values():
        for device in sorted(_mounted_in(kernel, process)):
            id = devices.get(device) or mounts.get(device)
            if id:
                found.setdefault(id, []).append(f"mount namespace of {process.title}")
    for layer in stack.closing:
        if unseen and not found.get(layer.id) and not layer.holds_unseen:
            found[layer.id] = unseen  # nobody can look into it
    return found


def servers(kernel: Kernel) -> list[str]:
    """Return the kernel's own servers that are in use; what they serve they hold unseen."""
    found = []
    for name in TARGETS:
        try:
            users = text(kernel, f"/sys/module/{name}/refcnt")
        except OSError:
            continue  # it is not loaded
        if users not in ("0", ""):
            found.append(name)
    return found


def _namespace(kernel: Kernel, pid: int) -> str:
    try:
        return kernel.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _open_namespaces(kernel: Kernel, process: Process) -> list[str]:
    base = f"/proc/{process.pid}/fd"
    try:
        links = [kernel.readlink(f"{base}/{number}") for number in kernel.listdir(base)]
    except OSError:
        return []
    return [link for link in links if link.startswith("mnt:[")]


def _mounted_in(kernel: Kernel, process: Process) -> set[str]:
    try:
        entries = mountinfo.parse(kernel.read(f"/proc/{process.pid}/mountinfo"))
    except OSError:
        return set()
    return {entry.device for entry in entries}


def uses(kernel: Kernel, process: Process) -> Iterator[Use]:
    """Yield what a process holds open."""
    base = f"/proc/{process.pid}"
    for link, how in (("cwd", "working directory"), ("root", "root directory"), ("exe", "program")):
        yield from _at(kernel, f"{base}/{link}", how)
    try:
        numbers = kernel.listdir(f"{base}/fd")
    except OSError:
        numbers = []
    for number in numbers:
        yield from _at(kernel, f"{base}/fd/{number}", "open file")
    try:
        lines = text(kernel, f"{base}/maps").splitlines()
    except OSError:
        lines = []
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[4] != "0":
            major, _, minor = fields[3].partition(":")
            yield Use(f"{int(major, 16)}:{int(minor, 16)}", MAPPED, fields[5])


def _at(kernel: Kernel, path: str, how: str) -> Iterator[Use]:
    """Yield the use of the device that a file lies on and, for a device node, of the device that it
    is."""
    try:
        found = kernel.stat(path)
    except OSError:
        return
    yield Use(found.device, how, path)
    if found.special != "0:0":
        yield Use(found.special, how, path, is_node=True)
