"""Keys that file systems hold for encrypted directories, where the file system stays mounted.

One that is unmounted drops its keys by itself. Source: Documentation/filesystems/fscrypt.rst.
"""

from __future__ import annotations

from errno import ENODATA, ENOKEY, ENOTDIR

from finalstage.bounded import bind
from finalstage.layers.mount import Mount
from finalstage.lines import Line
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import FileSystemKey, Kernel
    from finalstage.stack import Stack

SECONDS = 5.0
"""For one file system. Removing a key writes out what is dirty in its files first."""

TYPES = frozenset(("ext4", "f2fs", "ubifs", "btrfs", "ceph"))
"""File systems that know fscrypt."""

DEEPEST = 3
MOST_PLACES = 4000
"""How many names to look at. Homes are encrypted, or what is directly below: /home, /srv."""


def lock(kernel: Kernel, stack: Stack, until: float) -> list[Line]:
    """Remove all keys from the file systems in a stack; never raises, and returns by `until`.

    To be called when nothing more will close, and before anything is made read-only.
    """
    lines: list[Line] = []
    calls = []
    targets = frozenset(layer.target for layer in stack.layers if isinstance(layer, Mount))
    seen: set[str] = set()
    for layer in stack.layers:
        if isinstance(layer, Mount) and layer.type in TYPES and layer.device not in seen:
            seen.add(layer.device)
            job = bind(_lock_one, kernel, layer, targets)
            calls.append((layer, kernel.start(f"lock {layer.title}", job)))
    until = min(until, kernel.now() + SECONDS)
    for layer, call in calls:
        kernel.wait((call,), until - kernel.now())
        if call.done and isinstance(call.value, list):
            lines += call.value
        else:
            reason = describe(call.error) if call.error else "no answer in time"
            lines.append(Line(f"KEYS OF DIRECTORIES MAY REMAIN: {layer.title}: {reason}", bad=True))
    return lines


def _lock_one(kernel: Kernel, layer: Mount, targets: frozenset[str]) -> list[Line]:
    """Find the keys of one file system by the directories that they encrypt, and remove them."""
    lines = []
    for key, path in _keys(kernel, layer.target, targets).items():
        place = f"{layer.title}: the key of {path[len(layer.target.rstrip('/')) :] or '/'}"
        try:
            busy = kernel.remove_encryption_key(layer.target, key)
        except OSError as error:
            if error.errno != ENOKEY:
                words = f"{place} is not removed: {describe(error)}"
                lines.append(Line(f"A KEY MAY REMAIN IN MEMORY: {words}", bad=True))
            continue
        if busy:
            words = f"{place} is removed, but files are in use and keep theirs"
            lines.append(Line(f"A KEY MAY REMAIN IN MEMORY: {words}", bad=True))
        else:
            lines.append(Line(f"removed from {place}"))
    return lines


def _keys(kernel: Kernel, target: str, targets: frozenset[str]) -> dict[FileSystemKey, str]:
    """Return the keys that directories near the top are encrypted with, and one such directory.

    All that is below an encrypted directory has its policy; so no need to look there.
    """
    found: dict[FileSystemKey, str] = {}
    todo = [(target, 0)]
    for _ in range(MOST_PLACES):
        if not todo:
            break
        path, depth = todo.pop(0)
        try:
            found.setdefault(kernel.encryption_key(path), path)
        except OSError as error:
            if error.errno == ENODATA and depth < DEEPEST:
                below = (f"{path.rstrip('/')}/{name}" for name in kernel.listdir(path))
                todo += [(each, depth + 1) for each in below if each not in targets]
            elif error.errno not in (ENODATA, ENOTDIR) and not depth:
                break  # no directory of this file system can be encrypted
    return found
