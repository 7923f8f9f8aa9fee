"""The kinds of layer, one module each: how to recognise it, and how to close it.

A new kind is a new module here, named in `KINDS`.
"""

from __future__ import annotations

from finalstage.layers import (
    bcache,
    disk,
    dm,
    drbd,
    loop,
    md,
    monitor,
    mount,
    nbd,
    nfsd,
    nvme,
    partition,
    rbd,
    scsi,
    swap,
    zfs,
    zram,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from finalstage.kernel import Kernel
    from finalstage.stack import Layer
    from finalstage.world import World

    class Kind(Protocol):
        """What a module here offers."""

        KIND: str

        def scan(self, kernel: Kernel, world: World) -> Sequence[Layer]:
            """Return the layers of this kind."""

        def close(self, kernel: Kernel, layer: Layer) -> None:
            """Close it, or flush it where it does not close. OSError if that failed."""

        def settle(self, kernel: Kernel, layer: Layer) -> None:
            """Make what is in it safe where it stays: write out, turn read-only. May raise."""


KINDS: tuple[Kind, ...] = (
    mount,
    nfsd,
    swap,
    dm,
    md,
    monitor,
    bcache,
    loop,
    zram,
    drbd,
    zfs,
    nbd,
    nvme,
    scsi,
    rbd,
    partition,
    disk,
)
BY_NAME: dict[str, Kind] = {kind.KIND: kind for kind in KINDS}

RELEASES = {kind.KIND: kind.release for kind in KINDS if hasattr(kind, "release")}
"""How to have what is in flight to a layer fail, since it will never be answered, for the kinds
that have a way. Returned is what was done, in words that follow its name, or "" if nothing was.
"""

HURRIES = {kind.KIND: kind.hurry for kind in KINDS if hasattr(kind, "hurry")}
"""How layers are told not to wait for a lost server for long, for the kinds that have a way."""

NO_WAYS: dict[str, str] = {kind.KIND: kind.NO_WAY for kind in KINDS if hasattr(kind, "NO_WAY")}
"""Why layers that should be gone cannot be closed, for the kinds of which the kernel has no way."""


def close(kernel: Kernel, layer: Layer) -> None:
    """Close a layer, in the way of its kind."""
    BY_NAME[layer.kind].close(kernel, layer)


def release(kernel: Kernel, layer: Layer) -> str:
    """Have what is in flight to a layer fail, in the way of its kind; "" if that has none."""
    way = RELEASES.get(layer.kind)
    return way(kernel, layer) if way else ""


def settle(kernel: Kernel, layer: Layer) -> None:
    """Make what is in a layer safe, in the way of its kind."""
    BY_NAME[layer.kind].settle(kernel, layer)
