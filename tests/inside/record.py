"""Prints what scan, and who asks like it, can read on this machine: an entry of /proc or /sys, or
an answer of the device mapper's, a line, as the `repr` of a tuple."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from finalstage.kernel import DmStatus, Kernel, Stat
from finalstage.kernel.linux import LinuxKernel
from finalstage.scan import scan
from finalstage.stage import OLD_ROOT, OWN_MOUNTS
from finalstage.value import Value

FILES = ("/proc/self/mountinfo", "/proc/swaps", "/proc/mdstat")
FOLDERS = (
    "/proc/fs/jbd2",
    "/sys/dev/block",
    "/sys/class/block",
    "/sys/class/block/*",
    "/sys/class/block/*/bcache",
    "/sys/class/block/*/dm",
    "/sys/class/block/*/holders",
    "/sys/class/block/*/loop",
    "/sys/class/block/*/md",
    "/sys/class/block/*/md/bitmap",
    "/sys/class/block/*/md/dev-*",
    "/sys/class/block/*/slaves",
    "/sys/fs",
    "/sys/fs/bcache",
    "/sys/fs/bcache/*",
    "/sys/fs/btrfs",
    "/sys/fs/btrfs/*",
    "/sys/fs/btrfs/*/devices",
    "/sys/fs/ext4",
)
"""Recorded in any case, where they are there; what scan asks for besides is recorded as well."""

VOLATILE = frozenset(("stat", "inflight", "uevent", "diskseq", "events_poll_msecs"))
"""Files that are different each time, and say nothing about what a device is."""


T = TypeVar("T")


class Recorder:
    """A kernel that can only be asked, and keeps its answers. `entries` are those of /proc and
    /sys by their own paths, none of them through a link."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.entries: dict[str, tuple[object, ...]] = {}
        self.answers: dict[tuple[str, str], object] = {}

    # What scan asks for

    def read(self, path: str) -> bytes:
        self.keep(path)
        return self.kernel.read(path)

    def listdir(self, path: str) -> list[str]:
        self.keep_folder(path)
        return self.kernel.listdir(path)

    def readlink(self, path: str) -> str:
        self.keep(path)
        return self.kernel.readlink(path)

    def stat(self, path: str) -> Stat:
        found = self._ask("stat", path, lambda: self.kernel.stat(path))
        self.answers["stat", path] = plain(found)
        return found

    def dm_status(self, device: str) -> DmStatus:
        return self._dm("dm_status", device, self.kernel.dm_status)

    def dm_info(self, device: str) -> DmStatus:
        return self._dm("dm_info", device, self.kernel.dm_info)

    def _dm(self, question: str, device: str, ask: Callable[[str], DmStatus]) -> DmStatus:
        found = self._ask(question, device, lambda: ask(device))
        targets = tuple(plain(target) for target in found.targets)
        self.answers[question, device] = plain(found.but(targets=targets))
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)  # to start, to wait

    def _ask(self, question: str, thing: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except OSError as error:
            self.answers[question, thing] = error.errno
            raise

    # What is kept

    def keep(self, path: str) -> str:
        """Keep what is at a path, and every link on the way there; return its own path."""
        at, waiting = "", path.strip("/").split("/")
        while waiting:
            at = os.path.normpath(f"{at}/{waiting.pop(0)}")
            try:
                mode = os.lstat(at).st_mode
            except OSError:
                break
            if stat.S_ISLNK(mode) and at != "/proc/self":  # which leads elsewhere each time
                target = os.readlink(at)
                self.entries[at] = ("link", target)
                waiting = target.strip("/").split("/") + waiting
                at = "" if target.startswith("/") else os.path.dirname(at)
            elif os.path.isdir(at):
                self.entries[at] = ("folder",)
            else:
                self.entries[at] = self._content(at)
        return at

    def _content(self, path: str) -> tuple[object, ...]:
        try:
            return ("file", self.kernel.read(path))
        except OSError as error:
            return ("error", error.errno)

    def keep_folder(self, path: str) -> None:
        """Keep a folder's files and links, and the names of the folders in it."""
        path = self.keep(path)
        for name in names(path):
            at = f"{path}/{name}"
            if os.path.islink(at):
                self.entries[at] = ("link", os.readlink(at))
            elif path.startswith("/proc") and not os.path.isdir(at):
                self.entries.setdefault(at, ("file", b""))  # who knows what it costs to read it
            elif name not in VOLATILE:
                self.keep(at)


def plain(value: Value) -> tuple[object, ...]:
    """Return the fields of a value, in their order."""
    return tuple(getattr(value, name) for name in value.__fields__)


def names(path: str) -> list[str]:
    """Return the names in a folder; none if it is none, or not there."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def matching(pattern: str) -> list[str]:
    """Return the paths that match a pattern with `*` at the end of some of its names."""
    found = [""]
    for part in pattern.split("/")[1:]:
        start, star, _ = part.partition("*")
        found = [
            f"{path}/{name}"
            for path in found
            for name in (names(path) if star else [part])
            if name.startswith(start)
        ]
    return found


def record(kernel: Kernel, own: frozenset[str], old_root: str) -> Iterator[tuple[object, ...]]:
    """Yield all that is recorded, and at last what scan has made of it, by layer."""
    recorder = Recorder(kernel)
    for path in FILES:
        recorder.keep(path)
    for pattern in FOLDERS:
        for path in matching(pattern):
            recorder.keep_folder(path)
    for path in matching("/sys/class/block/*/dm*"):
        recorder.dm_info(kernel.read(f"{path}/../dev").decode().strip())
    stack = scan(recorder, own, old_root)
    for path, entry in sorted(recorder.entries.items()):
        yield (entry[0], path, *entry[1:])
    for (question, thing), answer in sorted(recorder.answers.items()):
        yield (question, thing, answer)
    for layer in stack.layers:
        yield ("layer", layer.id, layer.title, layer.below)
    for problem in stack.problems:
        yield ("problem", problem)


def main() -> None:
    """Print it. With the argument `pivoted` paths are named as before the pivot."""
    view = (OWN_MOUNTS, OLD_ROOT) if sys.argv[1:] == ["pivoted"] else (frozenset[str](), "")
    for entry in record(LinuxKernel(), *view):
        sys.stdout.write(f"{entry!r}\n")
