"""Which layers are closed when some are named, which are only written out, and which stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from finalstage.cli.close.running import Need
from finalstage.kernel import Kernel
from finalstage.layers import swap
from finalstage.layers.dm import Dm
from finalstage.layers.mount import Mount
from finalstage.layers.swap import Swap
from finalstage.plan import Plan, plan
from finalstage.stack import Layer, Stack, covering, io_below, resting

OTHERS_WORK = {
    "nfsd": ("it serves other machines", "end it first: exportfs -ua, and stop nfs-server"),
    "drbd": ("its peer has to hear of it", "drbdadm down RESOURCE"),
    "zfs": ("the kernel has no way that is not ZFS's own", "zpool export POOL"),
}
"""The kinds that are not closed here, why, and what to do."""

LVM, UUID_LENGTH = "LVM-", 68
"""How LVM's UUIDs begin, and how long that of a volume is with this; that of a part of one goes on
with what it is: build_dm_uuid() in lvm2's lib/activate/dev_manager.c."""

MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Selection:
    """What is to be done to a stack. `kept` are layers that might have been
    expected to go, and why they stay."""

    stack: Stack
    closing: tuple[Layer, ...]
    flushed: tuple[Layer, ...]
    kept: tuple[tuple[Layer, str], ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the layers to be closed."""
        return frozenset(layer.id for layer in self.closing)

    def plan(self, stack: Stack) -> Plan:
        """Return the plan by which that is done, as the stack is now."""
        wanted = self.ids.union(layer.id for layer in self.flushed)
        return plan(stack, circles=False, keep={layer.id for layer in stack.layers} - wanted)


def firm(stack: Stack) -> Stack:
    """Return the stack without what file systems only may stand on: who closes a swap area does not
    want all that is in memory unmounted, nor an overlay that might lie on any disk which nobody
    holds. Where it does, the kernel refuses. The mounts that an overlay is made of it does not hold
    in the kernel's eyes; but its devices it does."""
    return stack.but(  # type: ignore[no-any-return]
        layers=tuple(
            layer.but(below=tuple(filter(_is_firm(layer), layer.below)))
            if layer.kind == "mount" and layer.leans_on
            else layer
            for layer in stack.layers
        )
    )


def _is_firm(layer: Layer) -> Callable[[str], bool]:
    return lambda id: id not in layer.leans_on or id.startswith("mount:")


def of_targets(
    stack: Stack, targets: Iterable[Layer], below: bool, needed: Mapping[str, Need]
) -> Selection:
    """Select what is named, and all that stands on it; with `below` also what that stands on, as
    far as nothing else does."""
    named = {layer.id for layer in targets}
    edges = firm(stack)
    ids = resting(edges, named)
    lower = io_below(edges, ids) if below else _parts(edges, ids)
    disks = {layer.id for layer in edges.closing if _is_remote(layer)} if below else set()
    return _selection(stack, ids, lower - ids, needed, named | disks)


def of_all(stack: Stack, below: bool, needed: Mapping[str, Need]) -> Selection:
    """Select all storage that can be closed and that nothing stands on which has to stay; what does
    not close of it is written out. Disks behind a network are let go with `below` only. What is no
    storage, such as /dev/shm, goes only with something that it is mounted on."""
    edges = firm(stack)
    storage = {layer.id for layer in edges.layers if _is_storage(edges, layer)}
    disks = {layer.id for layer in edges.closing if _is_remote(layer)}
    whole = _selection(stack, set(), resting(edges, storage), needed, disks if below else ())
    going = resting(edges, whole.ids & storage)
    return replace(
        whole,
        closing=tuple(layer for layer in whole.closing if layer.id in going),
        kept=tuple((layer, why) for layer, why in whole.kept if layer.id in storage),
    )


def _selection(
    stack: Stack,
    ids: set[str],
    candidates: set[str],
    needed: Mapping[str, Need],
    named: Collection[str],
) -> Selection:
    """Return what is selected for sure, and of the candidates what may go with it. Some of these
    go only if they are `named`."""
    edges = firm(stack)
    reasons = dict(_staying(edges, needed, named))
    above, depths, layers = edges.above, edges.depths, edges.by_id
    kept: list[tuple[Layer, str]] = []
    ids = set(ids)
    for id in sorted(candidates & depths.keys(), key=lambda id: depths[id]):
        layer = layers[id]
        users = [layers[user].title for user in above[id] if user not in ids]
        if id not in reasons and not users:
            ids.add(id)
        elif layer.closes:
            kept.append((layer, reasons.get(id) or f"it is used by {', '.join(users)}"))
    written = ids | io_below(edges, ids)
    return Selection(
        stack=stack,
        closing=tuple(layer for layer in stack.closing if layer.id in ids),
        flushed=tuple(
            layer
            for layer in stack.layers
            if layer.id in written and layer.id.startswith("block:") and layer.device
            if not (layer.id in ids and layer.closes)
        ),
        kept=tuple(kept),
    )


def _staying(
    stack: Stack, needed: Mapping[str, Need], named: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield what is not closed without being named, and why."""
    layers = stack.by_id
    for id in layers.keys() - stack.depths.keys():
        yield id, "it stands on itself"
    for layer in stack.layers:
        if layer.kind in OTHERS_WORK:
            why, _ = OTHERS_WORK[layer.kind]
            for id in covering(stack, (layer.id,)):
                yield id, why if id == layer.id else f"{layer.title} on it stays"
        elif layer.id in named:
            continue
        elif layer.kind == "zram":
            for id in covering(stack, (layer.id,)):
                yield id, "what is in it would be lost; name it to have it closed"
        elif _is_remote(layer):
            yield layer.id, "it is a disk; name it, or say --below"
    for id, need in needed.items():
        for lower in covering(stack, (id,)):
            yield lower, need.why if lower == id else f"{layers[id].title} on it is {need.why}"


def _is_remote(layer: Layer) -> bool:
    """Whether a layer is a disk, or what connects some, that can be let go."""
    return layer.closes and (layer.is_disk or layer.kind in ("nvme", "scsi"))


def _is_storage(stack: Stack, layer: Layer) -> bool:
    """Whether a layer is a block device, or keeps something on one."""
    return layer.kind != "mount" or any(
        id.startswith("block:") for id in io_below(stack, (layer.id,))
    )


def _parts(stack: Stack, ids: Iterable[str]) -> set[str]:
    """Return the devices that are only parts of some: LVM's own below a volume, that for the
    checksums below a LUKS device."""
    layers = stack.by_id
    found: set[str] = set()
    todo = list(ids)
    while todo:
        upper = layers[todo.pop()]
        for id in upper.below:
            lower = layers.get(id)
            if lower and id not in found and _is_part(upper, lower):
                found.add(id)
                todo.append(id)
    return found


def _is_part(upper: Layer, lower: Layer) -> bool:
    if not (isinstance(upper, Dm) and isinstance(lower, Dm)):
        return False
    if upper.uuid.startswith(LVM) and lower.uuid.startswith(LVM):
        return lower.uuid[:36] == upper.uuid[:36] and len(lower.uuid) > UUID_LENGTH
    return upper.uuid.startswith("CRYPT-") and lower.name == f"{upper.name}_dif"


def refusals(kernel: Kernel, selection: Selection, needed: Mapping[str, Need]) -> list[str]:
    """Return why what is selected must not be closed, a line each."""
    stack, found = selection.stack, []
    depths = stack.depths
    for layer in selection.closing:
        what = f"cannot close {layer.title}"
        if need := needed.get(layer.id):
            found.append(f"{what}: it is {need.why}; {need.remedy}")
        elif layer.kind in OTHERS_WORK:
            why, remedy = OTHERS_WORK[layer.kind]
            found.append(f"{what}: {why}; {remedy}")
        elif layer.id not in depths:
            found.append(f"{what}: it stands on itself, in a circle; finalstage breaks such only")
        elif isinstance(layer, Swap) and (why := swap.refusal(kernel, layer)):
            found.append(f"{what}: {why}; end some processes, or have another swap area")
    for layer in (*selection.closing, *selection.flushed):
        if isinstance(layer, Dm) and layer.suspended:
            remedy = f"`dmsetup resume {layer.name}`, or have who did that go on"
            found.append(f"cannot close {layer.title}: it is suspended; {remedy}")
    return found


def losses(selection: Selection) -> list[str]:
    """Return what is lost with what is selected, a line each: what is only in memory."""
    staying = {
        layer.device
        for layer in selection.stack.layers
        if isinstance(layer, Mount) and layer.id not in selection.ids
    }
    return [
        f"what is in {layer.title} is only in memory, and is lost"
        for layer in selection.closing
        if layer.kind == "zram"
        or (isinstance(layer, Mount) and layer.type in MEMORY and layer.device not in staying)
    ]
