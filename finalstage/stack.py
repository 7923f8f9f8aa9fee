"""The model: layers, and who stands on whom. No I/O.

The stack is a directed acyclic graph. Each layer names what it stands on; so an edge says that
the upper one must be gone before the lower one can go.
"""

from __future__ import annotations

from finalstage.value import Value, derived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from typing import TypeVar

    L = TypeVar("L", bound="Layer")


def printable(text: str) -> str:
    """Return text as it may stand in a line: control characters and odd bytes are escaped."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else ascii(text)[1:-1]


class Layer(Value):
    """One thing that can be closed: a mount, a swap area, a device-mapper device, an array.

    `id` is unique in its stack and the same from scan to scan; `type` and `name` are what people
    call it (``ext4`` ``/home``, ``crypt`` ``cryptroot``). `leans_on` is what had better be closed
    after it, though the kernel would not refuse otherwise. `places` are those of `below` to which
    nothing of it is written: what it is mounted on, where its device node lies. `closes` is false
    for what stays when all is done, a disk or a partition; such a layer is only flushed. `is_disk`
    is true where I/O ends, on this machine or on another one. What `holds_unseen` may hold devices
    of which the kernel does not tell. `shown` is false for what nobody wants to read about, the
    kernel's own file systems. `problem` says what could not be read of it.
    """

    id: str
    kind: str
    type: str
    name: str
    below: tuple[str, ...] = ()
    leans_on: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    device: str = ""
    closes: bool = True
    is_disk: bool = False
    holds_unseen: bool = False
    shown: bool = True
    problem: str = ""

    @property
    def title(self) -> str:
        """Type and name, as they stand in messages. Whoever mounts by FUSE chooses both."""
        return printable(f"{self.type} {self.name}")


class Stack(Value):
    """All layers of a machine at one moment. `problems` says what could not be read. It is `blind`
    where no block device is among them because nobody can tell which there are."""

    layers: tuple[Layer, ...]
    problems: tuple[str, ...] = ()
    blind: bool = False

    def get(self, id: str) -> Layer | None:
        """Return a layer by its id."""
        return self.by_id.get(id)

    @derived
    def by_id(self) -> dict[str, Layer]:
        """All layers by their ids."""
        return {layer.id: layer for layer in self.layers}

    @derived
    def above(self) -> dict[str, tuple[str, ...]]:
        """For each layer the ids of those that stand on it: its holders."""
        found: dict[str, list[str]] = {layer.id: [] for layer in self.layers}
        for layer in self.layers:
            for lower in dict.fromkeys(layer.below):
                if lower in found:
                    found[lower].append(layer.id)
        return {id: tuple(upper) for id, upper in found.items()}

    @derived
    def closing(self) -> tuple[Layer, ...]:
        """The layers that should be gone in the end."""
        return tuple(layer for layer in self.layers if layer.closes)

    @derived
    def depths(self) -> dict[str, int]:
        """For each layer, in which round it can go: 0 is held by nobody.

        What stands in a circle, and what lies below it, is missing.
        """
        above = self.above
        waiting = {id: len(upper) for id, upper in above.items()}
        layers = self.by_id
        ready = [id for id, count in waiting.items() if count == 0]
        found = dict.fromkeys(ready, 0)
        for id in ready:  # grows while it is walked
            for lower in dict.fromkeys(layers[id].below):
                if lower not in waiting:
                    continue
                waiting[lower] -= 1
                found[lower] = max(found.get(lower, 0), found[id] + 1)
                if waiting[lower] == 0:
                    ready.append(lower)
        done = set(ready)
        return {id: depth for id, depth in found.items() if id in done}


def circles(stack: Stack) -> list[tuple[Layer, ...]]:
    """Return the circles in which layers stand on each other, each on the next, the last one on the
    first. Of several that share a layer it is one."""
    depth = stack.depths
    stuck = {layer.id: layer for layer in stack.layers if layer.id not in depth}
    found: list[tuple[Layer, ...]] = []
    seen: set[str] = set()
    for first in stuck:
        # The way to each layer below, by the layer above it.
        above: dict[str, str] = {}
        todo = [first]
        for id in todo:  # grows while it is walked
            for lower in stuck[id].below:
                if lower in stuck and lower not in above and lower not in seen:
                    above[lower] = id
                    todo.append(lower)
        if first in above and first not in seen:
            ring = [above[first]]
            while ring[-1] != first:
                ring.append(above[ring[-1]])
            seen.update(ring)
            found.append(tuple(stuck[id] for id in reversed(ring)))
    return found


def lean(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return layers with all that they lean on among what they stand on, but for what would close
    a circle: then the one that stands on the other goes first."""
    found = {layer.id: layer for layer in layers}
    for layer in tuple(found.values()):
        for id in layer.leans_on:
            if id in found and not _reaches(found, id, layer.id):
                upper = found[layer.id]
                found[layer.id] = upper.but(below=(*upper.below, id))
    return tuple(found.values())


def gives_way(stack: Stack) -> bool:
    """Whether some layer does not stand on all that it leans on."""
    layers = stack.by_id
    return any(
        id in layers and id not in layer.below for layer in stack.layers for id in layer.leans_on
    )


def without_circles(stack: Stack) -> Stack:
    """Return the stack without the edges between layers that stand on one another in a circle."""
    depth = stack.depths
    if len(depth) == len(stack.layers):
        return stack
    layers = stack.by_id
    return stack.but(  # type: ignore[no-any-return]
        layers=tuple(
            layer
            if layer.id in depth
            else layer.but(below=tuple(x for x in layer.below if not _reaches(layers, x, layer.id)))
            for layer in stack.layers
        )
    )


def _reaches(layers: dict[str, Layer], upper: str, lower: str) -> bool:
    """Whether `upper` stands on `lower`, or is it."""
    return lower in _reached((upper,), layers, lambda id: layers[id].below)


def rounds(stack: Stack, layers: Iterable[L]) -> list[list[L]]:
    """Return some layers of a stack in rounds, those that nobody holds first; among them is what
    stands in a circle, or below one."""
    found: dict[int, list[L]] = {}
    depth = stack.depths
    for layer in layers:
        found.setdefault(depth.get(layer.id, 0), []).append(layer)
    return [found[number] for number in sorted(found)]


def covering(stack: Stack, ids: Iterable[str]) -> set[str]:
    """Return `ids` and everything that they stand on, down to the disks."""
    layers = stack.by_id
    return _reached(ids, layers, lambda id: layers[id].below)


def io_below(stack: Stack, ids: Iterable[str]) -> set[str]:
    """Return `ids` and everything that is written to when they are, down to the disks."""
    layers = stack.by_id
    return _reached(
        ids, layers, lambda id: (x for x in layers[id].below if x not in layers[id].places)
    )


def within(stack: Stack, ids: Container[str]) -> Stack:
    """Return the stack of those layers alone."""
    return stack.but(  # type: ignore[no-any-return]
        layers=tuple(layer for layer in stack.layers if layer.id in ids)
    )


def resting(stack: Stack, ids: Iterable[str]) -> set[str]:
    """Return `ids` and everything that stands on them, up to the mounts."""
    above = stack.above
    return _reached(ids, above, above.__getitem__)


def _reached(
    ids: Iterable[str], known: Container[str], step: Callable[[str], Iterable[str]]
) -> set[str]:
    """Return all that is known among `ids`, and that can be reached from there in steps."""
    found: set[str] = set()
    todo = list(ids)
    while todo:
        id = todo.pop()
        if id in known and id not in found:
            found.add(id)
            todo.extend(step(id))
    return found
