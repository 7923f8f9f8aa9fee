"""Device-mapper devices: LVM volumes, dm-crypt, and everything else that dm maps.

What each target keeps when it is removed, or suspended on the way to its key being wiped: its
postsuspend function is called both times (__dm_destroy() and dm_suspend() in drivers/md/dm.c). A
thin pool commits its metadata, a cache writes out which blocks are dirty and that it was shut down
in order, a writecache commits what is in it, a RAID marks its bitmap and superblocks clean, a
mirror its log. Dirty blocks stay on the fast device, where the next boot finds them.
"""

from __future__ import annotations

from errno import ENXIO

from finalstage.bounded import bind
from finalstage.kernel import DmStatus, Target
from finalstage.stack import Layer
from finalstage.world import block_id, describe, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from finalstage.kernel import Call, Kernel
    from finalstage.world import Block, World

    Answer = DmStatus | Exception | Call

KIND = "dm"

UNREAD = "unread"
"""What stands for the targets of a device that could not be asked for them."""

SILENT = "silent"
"""What stands for those of one that was asked and does not answer. Only targets that have metadata
on what hangs do that, and none of these has a key."""

WITHOUT_MESSAGE = frozenset(("integrity", "default-key", "inlinecrypt", UNREAD))
"""Targets that have a key, or may have one, and no message that wipes it."""

NO_SPACE_TIMEOUT = "/sys/module/dm_thin_pool/parameters/no_space_timeout"
"""How many seconds a pool that is full queues writes, if it does not fail them at once; by default
60. Counted anew when it goes on after a suspend: set_pool_mode() in drivers/md/dm-thin.c."""

KEYED_TARGETS = WITHOUT_MESSAGE | {"crypt"}

QUEUES = frozenset(("out_of_data_space", "queue_if_no_space"))

ORIGINS = frozenset(("snapshot-origin", "snapshot-merge"))

ANSWER_SECONDS = 1.0
"""How long devices may take to say what they are."""

PUSH_SECONDS, PUSH_EVERY = 3.0, 0.1


class Dm(Layer):
    """A device-mapper device. `targets` is empty where it has no live table. `asked` is the call
    that has asked for them and has not come back."""

    uuid: str = ""
    targets: tuple[Target, ...] = ()
    suspended: bool = False
    inactive_table: bool = False
    asked: Call | None = None

    @property
    def sectors(self) -> int:
        """The length of its live table."""
        return max((target.start + target.length for target in self.targets), default=0)

    @property
    def has_key(self) -> bool:
        """Whether a key is in its live table, or may be in its inactive one.

        An integrity target may have one, for a keyed checksum; its status does not say. Nor is
        anything known of one that could not be read.
        """
        return self.inactive_table or self.has_live_key

    @property
    def has_live_key(self) -> bool:
        """Whether a key is, or may be, in its live table."""
        return not KEYED_TARGETS.isdisjoint(self.types)

    @property
    def types(self) -> set[str]:
        """The types of its targets."""
        return {target.type for target in self.targets}

    @property
    def lost(self) -> tuple[Target, ...]:
        """Its multipath targets that have no path left."""
        return tuple(target for target in self.targets if _has_no_path(target))

    @property
    def is_full(self) -> bool:
        """Whether it is a thin pool that queues what it has no space for: pool_status() in
        drivers/md/dm-thin.c."""
        return any(
            target.type == "thin-pool" and QUEUES.issubset(target.status.split())
            for target in self.targets
        )

    @property
    def waits_in_vain(self) -> bool:
        """Whether I/O waits in it for somebody who is not there any more."""
        return self.suspended or self.is_full or bool(self.lost)


def scan(kernel: Kernel, world: World) -> list[Dm]:
    """Every device of the device mapper."""
    blocks = [block for block in world.blocks if "dm" in block.entries]
    asked = {layer.device: layer.asked for layer in world.before if isinstance(layer, Dm)}
    answers: dict[str, Answer] = {}
    for device, call in asked.items():
        if call and not kernel.wait((call,), 0):
            answers[device] = call
    answers |= _ask(kernel, [block.device for block in blocks if block.device not in answers])
    return _behind_origins([_layer(kernel, block, answers[block.device]) for block in blocks])


def _ask(kernel: Kernel, devices: list[str]) -> dict[str, Answer]:
    """Ask each device what it is. Return statuses, errors, and calls that have not come back.

    One after the other, which is quickest; where one does not answer, those behind it side by side.
    """
    found: dict[str, Answer] = {}
    first = kernel.start("dm status", bind(_ask_into, kernel, devices, found))
    kernel.wait((first,), ANSWER_SECONDS)
    if first.done:
        return found
    found, left = dict(found), [device for device in devices if device not in found]
    found[left[0]] = first
    calls = {
        device: kernel.start(f"dm status {device}", bind(_ask_into, kernel, [device], found))
        for device in left[1:]
    }
    until = kernel.now() + ANSWER_SECONDS
    while calls and kernel.wait(calls.values(), until - kernel.now()):
        calls = {device: call for device, call in calls.items() if not call.done}
    return found | calls


def _ask_into(kernel: Kernel, devices: list[str], found: dict[str, Answer]) -> None:
    for device in devices:
        try:
            found[device] = kernel.dm_status(device)
        except Exception as error:
            found[device] = error


def _layer(kernel: Kernel, block: Block, answer: Answer) -> Dm:
    """Return the layer that a device is by its answer, or by what can be seen without one."""
    status = answer if isinstance(answer, DmStatus) else _info(kernel, block, answer)
    return Dm(
        id=block_id(block.device),
        kind=KIND,
        type="+".join(sorted({target.type for target in status.targets})) or "dm",
        name=status.name or block.name,
        below=tuple(block_id(slave) for slave in block.slaves),
        device=block.device,
        uuid=status.uuid,
        targets=status.targets,
        problem=_problem(block, answer) if status.targets else "",
        suspended=status.suspended,
        inactive_table=status.inactive_table,
        asked=None if isinstance(answer, DmStatus | Exception) else answer,
    )


def _info(kernel: Kernel, block: Block, answer: Exception | Call) -> DmStatus:
    """Return what a device is as far as that can be seen without its targets."""
    whole = Target(0, _sectors(kernel, block), UNREAD if isinstance(answer, Exception) else SILENT)
    if not _is_going(answer):
        try:
            status = kernel.dm_info(block.device)
            return status.but(targets=(whole,) * status.live_table)  # type: ignore[no-any-return]
        except Exception as error:
            answer = error
    targets = () if _is_going(answer) else (whole,)
    return DmStatus(block.name, "", 0, False, False, bool(targets), False, targets)


def _sectors(kernel: Kernel, block: Block) -> int:
    """Return how large a device is, which is only read where its table does not tell."""
    try:
        return int(text(kernel, f"{block.path}/size"))
    except (OSError, ValueError):
        return max(block.sectors, 0)


def _is_going(answer: object) -> bool:
    """Whether a device is being removed. It can still be seen, and holds what is below for a moment
    more."""
    return isinstance(answer, OSError) and answer.errno == ENXIO


def _problem(block: Block, answer: Answer) -> str:
    """Return why it is not known what a device is, or "" where it is."""
    if isinstance(answer, DmStatus):
        return ""
    reason = describe(answer) if isinstance(answer, Exception) else "no answer"
    return f"cannot read {block.name}: {reason}"


def _behind_origins(layers: list[Dm]) -> list[Dm]:
    """Return the layers, each origin leaning on its snapshots.

    What is written to an origin is first copied to the store of each snapshot that is there: of one
    that had gone before, the content would change. What an origin and its snapshots share is the
    device below them. Source: do_origin() and origin_write_extent() in drivers/md/dm-snap.c.
    """
    snapshots = [layer for layer in layers if "snapshot" in layer.types]
    return [
        layer.but(leans_on=tuple(other.id for other in _sharing(layer, snapshots)))
        if layer.types & ORIGINS
        else layer
        for layer in layers
    ]


def _sharing(layer: Dm, others: Iterable[Dm]) -> list[Dm]:
    return [other for other in others if not set(layer.below).isdisjoint(other.below)]


def _has_no_path(target: Target) -> bool:
    """Whether a target is a multipath all of whose paths have failed: the state stands behind the
    device, A or F. Source: multipath_status() in drivers/md/dm-mpath.c."""
    words = target.status.split()
    states = [words[index + 1] for index, word in enumerate(words[:-1]) if ":" in word]
    return target.type == "multipath" and "A" not in states


def settle(kernel: Kernel, layer: Layer) -> None:
    """Write out its page cache, and the caches below.

    fsync on a device that is suspended never returns, and on one without a table it fails: there is
    nothing that it could write.
    """
    assert isinstance(layer, Dm)
    if layer.targets and not layer.suspended:
        kernel.flush(layer.device)


def close(kernel: Kernel, layer: Layer) -> None:
    """Flush it, then remove it; that also where flushing failed, which is raised afterwards.

    One that somebody has marked for deferred removal goes by itself as soon as it is closed, be it
    by us who flush it. A segment or a key that an inactive table has goes with it.
    """
    try:
        _unless_gone(settle, kernel, layer)
    finally:
        _unless_gone(kernel.dm_remove, layer.device)


def _unless_gone(act: Callable[..., None], *arguments: object) -> None:
    try:
        act(*arguments)
    except OSError as error:
        if error.errno != ENXIO:
            raise


def unblock(kernel: Kernel, layer: Dm) -> str:
    """Have a device take I/O that would wait for no reason. Return what was done, or "".

    One that is suspended goes on with its live table: those above wrote by it, and see its data.
    Whoever has loaded another one is no longer there to say what it is for; it may hold a key.
    A multipath without a path fails what it has queued. So does a full pool, a moment after it has
    been suspended and goes on: NO_SPACE_TIMEOUT.
    """
    done = ""
    if layer.suspended and layer.targets:
        if layer.inactive_table:
            kernel.dm_clear(layer.device)
        kernel.dm_resume(layer.device)
        done = "was suspended, and goes on"
    elif layer.is_full:
        kernel.dm_suspend(layer.device, lockfs=False, flush=False)
        kernel.dm_resume(layer.device)
        done = "has no space left: what does not fit into it is lost"
    for target in layer.lost:
        kernel.dm_message(layer.device, target.start, "fail_if_no_path")
        done = "has no path left: what was queued for it is lost"
    return done


def release(kernel: Kernel, layer: Layer) -> str:
    """Have what waits for it fail: what a suspended device has put off, what a multipath without a
    path queues. What a delay has put off is written instead, as often as more comes for a while.

    What an active device has passed down is in flight there, and only from there to be freed.
    """
    assert isinstance(layer, Dm)
    if layer.suspended and layer.targets:
        replace_by_error(kernel, layer)
        return "fails all I/O from now on"
    if "multipath" in layer.types:
        now = layer.but(targets=kernel.dm_status(layer.device).targets)
        for target in now.lost:
            kernel.dm_message(layer.device, target.start, "fail_if_no_path")
        return "no longer queues I/O without a path" if now.lost else ""
    if "delay" in layer.types:
        until = kernel.now() + PUSH_SECONDS
        while kernel.now() < until:
            kernel.dm_suspend(layer.device, lockfs=False, flush=False)
            kernel.dm_resume(layer.device)
            kernel.sleep(PUSH_EVERY)
        return "has let go what it had put off"
    return ""


def may_wait(layer: Dm, waited_for: bool) -> bool:
    """Whether I/O may wait in the device itself, rather than below: any, or if there is some that
    somebody has waited for in vain."""
    types = layer.types
    return layer.suspended or "multipath" in types or ("delay" in types and waited_for)


def replace_by_error(kernel: Kernel, layer: Dm) -> None:
    """Put an error table in place of the live one, which goes, and the keys in it."""
    kernel.dm_load_error(layer.device, layer.sectors)
    kernel.dm_resume(layer.device)


def wipe_keys(kernel: Kernel, layer: Dm) -> None:
    """Wipe the key of every crypt segment; the device must be suspended.

    The message reaches the one target at its sector, so each segment gets its own:
    crypt_message() in drivers/md/dm-crypt.c, target_message() in drivers/md/dm-ioctl.c.
    """
    for target in layer.targets:
        if target.type == "crypt":
            kernel.dm_message(layer.device, target.start, "key wipe")
