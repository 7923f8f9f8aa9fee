"""Which processes hold what is to be closed, before anything is: nothing is left half closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from finalstage import mountinfo
from finalstage.holders import Use, uses
from finalstage.kernel import Kernel
from finalstage.layers.mount import Mount
from finalstage.processes import Process, all_processes
from finalstage.stack import Stack
from finalstage.world import block_id, text

SERVERS = ("nbd-client", "qemu-nbd")
"""Processes that have a device open as long as it is connected, and end with that."""

FUSE = "10:229"
"""Number of /dev/fuse: FUSE_MINOR in <linux/miscdevice.h>. Who has it open serves a file system,
perhaps one on a device that it has open too, and ends when that is unmounted."""


def find(kernel: Kernel, stack: Stack, ids: frozenset[str]) -> dict[str, list[str]]:
    """Return, for those of some layers that have any, their holders in words, by the layers' ids.

    Can hang, on a process that the kernel holds in a page fault: to be run aside.
    """
    look = Look(kernel, stack, ids)
    spaces: dict[str, Process] = {}
    own = look.namespace(kernel.pid)
    for process in all_processes(kernel):
        if process.pid == kernel.pid:
            continue
        look.at(process)
        space = look.namespace(process.pid)
        if space not in ("", own):
            spaces.setdefault(space, process)
    for process in spaces.values():
        look.in_namespace(process)
    return look.found


class Look:
    """A look at all processes."""

    def __init__(self, kernel: Kernel, stack: Stack, ids: frozenset[str]) -> None:
        self.kernel = kernel
        self.ids = ids
        self.found: dict[str, list[str]] = {}
        self.mounts = [layer for layer in stack.layers if isinstance(layer, Mount)]
        self.by_device: dict[str, list[Mount]] = {}
        for mount in self.mounts:
            self.by_device.setdefault(mount.device, []).append(mount)
        # The numbers of files on such differ from those of their mounts: btrfs_getattr().
        self.any_number = any(mount.type == "btrfs" and mount.id in ids for mount in self.mounts)
        self.peers = self._peers(kernel.pid, ids)

    def add(self, id: str, words: str) -> None:
        """Take in a holder, once."""
        words_of = self.found.setdefault(id, [])
        if words not in words_of:
            words_of.append(words)

    def at(self, process: Process) -> None:
        """Take in what a process holds."""
        held = list(uses(self.kernel, process))
        serves = process.name in SERVERS or any(use.device == FUSE for use in held)
        for use in held:
            id = self._held(use)
            if id in self.ids and not (use.is_node and serves):
                self.add(id, f"{process.title} ({use.how})")

    def _held(self, use: Use) -> str:
        """Return the id of the layer that a use holds, or ""."""
        if use.is_node:
            return block_id(use.device)
        mounts = self.by_device.get(use.device, self.mounts if self.any_number else [])
        if len(mounts) < 2 and mounts is not self.mounts:
            return mounts[0].id if mounts else ""
        path = self._path(use)
        on = [mount for mount in mounts if f"{path}/".startswith(mount.target.rstrip("/") + "/")]
        return max(on, key=lambda mount: len(mount.target)).id if on else ""

    def _path(self, use: Use) -> str:
        if not use.is_link:
            return use.path
        try:
            return self.kernel.readlink(use.path)
        except OSError:
            return ""  # it has just been closed

    def namespace(self, pid: int) -> str:
        """Return the mount namespace of a process, or "" if it has ended."""
        try:
            return self.kernel.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            return ""

    def in_namespace(self, process: Process) -> None:
        """Take in what is mounted where a process lives, and would stay so: a mount that hears from
        ours, or shares events with it, goes with it. mount_namespaces(7)."""
        for entry, peers in _entries(self.kernel, process.pid):
            ours = [mount.id for mount in self.by_device.get(entry.device, ())]
            block = block_id(entry.device)
            if block not in self.ids and not (ours and self.ids.issuperset(ours)):
                continue  # it is not the last mount that is to go
            if not any(peers & self.peers.get(id, set()) for id in ours):
                self.add(ours[0] if ours else block, f"mount namespace of {process.title}")

    def _peers(self, pid: int, ids: frozenset[str]) -> Mapping[str, set[str]]:
        """Return the groups in which our own mounts that are to be closed share events."""
        found = {}
        for entry, peers in _entries(self.kernel, pid):
            if f"mount:{entry.id}" in ids:
                found[f"mount:{entry.id}"] = peers
        return found


def _entries(kernel: Kernel, pid: int) -> Iterable[tuple[mountinfo.Entry, set[str]]]:
    """Yield the mounts that a process sees, and with each the numbers of the groups from which it
    gets events, or to which it sends them."""
    try:
        lines = text(kernel, f"/proc/{pid}/mountinfo").split("\n")
    except OSError:
        return  # it has just ended
    for line in lines:
        words = line.partition(" - ")[0].split(" ")[6:]
        peers = {word.partition(":")[2] for word in words if word[:7] in ("shared:", "master:")}
        for entry in mountinfo.parse(line.encode("utf-8", "surrogateescape")):
            yield entry, peers
