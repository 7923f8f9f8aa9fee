"""bcache: devices are stopped, then the cache sets that they stood on; what is dirty stays there.

To stop is not to detach: nothing is written back, and the next boot finds the dirty blocks where
they are. Sources: Documentation/admin-guide/bcache.rst, drivers/md/bcache/super.c and sysfs.c.
"""

from __future__ import annotations

from errno import ENOENT, ENXIO

from finalstage.progress import wait_until_gone
from finalstage.stack import Layer
from finalstage.world import block_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from finalstage.kernel import Kernel
    from finalstage.world import Block, World

KIND = "bcache"


class Bcache(Layer):
    """Something that bcache holds devices with, `held`. `folder` is where it is stopped, and
    `place` is there until nothing is held any more."""

    held: tuple[str, ...] = ()
    folder: str = ""
    place: str = ""


def scan(kernel: Kernel, world: World) -> list[Layer]:
    """Every cache set, every device made with one, and every backing device that waits for one."""
    found: list[Layer] = []
    sets: dict[str, list[Block]] = {}
    for block in world.blocks:
        if "bcache" not in block.entries:
            continue
        try:
            found += _recognise(kernel, block, sets)
        except OSError as error:
            if error.errno != ENOENT:
                raise
            continue  # it is just being stopped
    return found + [_set(uuid, caches) for uuid, caches in sets.items()]


def _recognise(kernel: Kernel, block: Block, sets: dict[str, list[Block]]) -> Iterator[Layer]:
    """Tell by its directory in /sys what a block device is to bcache, and add it to the `sets`.

    The directory of a backing device is also that of the device made with it. It is removed before
    the device is: cached_dev_flush().
    """
    folder = f"{block.path}/bcache"
    entries = kernel.listdir(folder)
    if "set" in entries:
        sets.setdefault(_end(kernel, f"{folder}/set"), []).append(block)
        return
    uuid = _end(kernel, f"{folder}/cache") if "cache" in entries else ""
    if "running" in entries and "dev" not in entries:
        yield Bcache(
            id=_id(block.device),
            kind=KIND,
            type="bcache backing",
            name=block.name,
            below=(block_id(block.device),),
            held=(block.device,),
            folder=folder,
            place=folder,
        )
    elif "dev" not in entries or _end(kernel, f"{folder}/dev") == block.name:
        if uuid:
            sets.setdefault(uuid, [])
        yield Bcache(
            id=block_id(block.device),
            kind=KIND,
            type="bcache",
            name=block.name,
            below=tuple(block_id(slave) for slave in block.slaves) + ((_id(uuid),) if uuid else ()),
            device=block.device,
            # A volume in the set alone goes with that: its own `unregister` deletes it.
            closes="dev" in entries,
            held=block.slaves,
            folder=folder,
            place=block.path,
        )


def _set(uuid: str, caches: list[Block]) -> Layer:
    folder = f"/sys/fs/bcache/{uuid}"
    return Bcache(
        id=_id(uuid),
        kind=KIND,
        type="bcache set",
        name=uuid,
        below=tuple(block_id(cache.device) for cache in caches),
        held=tuple(cache.device for cache in caches),
        folder=folder,
        # That of the set itself is removed long before its cache is let go: cache_set_flush().
        place=f"{caches[0].path}/bcache" if caches else folder,
    )


def _id(name: str) -> str:
    """Return the id of a cache set, by its UUID, or of a backing device that waits."""
    return f"bcache:{name}"


def _end(kernel: Kernel, path: str) -> str:
    """Return the last name in what a link points to."""
    return kernel.readlink(path).rpartition("/")[2]


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache. That ends in the cache set, or where that does not take it below.

    One that is being stopped cannot be opened any more: open_dev(). Whoever has it open still
    writes out what is left when he closes it.
    """
    if not layer.device:
        return
    try:
        kernel.flush(layer.device)
    except OSError as error:
        if error.errno != ENXIO:
            raise


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then stop it; that also where flushing failed, which is raised afterwards.

    To stop something only marks it. It goes when the last user does, and takes its time for that:
    threads are ended, and a set writes its tree and its journal out. EBUSY if it does not go.
    """
    assert isinstance(layer, Bcache)
    try:
        settle(kernel, layer)
    finally:
        if layer.closes:
            _stop(kernel, layer)


def _stop(kernel: Kernel, layer: Bcache) -> None:
    try:
        kernel.write(f"{layer.folder}/stop", b"1")
    except OSError as error:
        if error.errno != ENOENT:  # it is being stopped, perhaps by somebody else
            raise
    wait_until_gone(kernel, layer.place, layer.held)
