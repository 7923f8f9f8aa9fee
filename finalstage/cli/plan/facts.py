"""What people want to know of each layer beside its place: size, encryption, who holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from finalstage import holders
from finalstage.cli import targets
from finalstage.kernel import SECTOR, Kernel
from finalstage.layers.dm import Dm
from finalstage.layers.swap import Swap
from finalstage.processes import Population, all_processes
from finalstage.stack import Layer, Stack, printable
from finalstage.world import describe, swaps, text

HOLDERS_SECONDS = 2.0
"""How long processes may take to show what they hold: one may sleep in the kernel."""

KIB = 1024

KEYED_BY_UUID = {
    "CRYPT-LUKS2-": "LUKS2",
    "CRYPT-LUKS1-": "LUKS1",
    "CRYPT-PLAIN-": "plain dm-crypt",
    "CRYPT-LOOPAES-": "loop-AES",
    "CRYPT-TCRYPT-": "TrueCrypt",
    "CRYPT-BITLK-": "BitLocker",
    "CRYPT-FVAULT2-": "FileVault",
}
"""How UUIDs of encrypted devices begin, and what they are: dm_prepare_uuid() in cryptsetup's
lib/libdevmapper.c."""

BELOW = "below"
"""How it is said that a layer lies on encryption, rather than being it."""


@dataclass(frozen=True)
class Facts:
    """`size` is in bytes, None where it has none or it cannot be told. `encryption` is of which
    kind it is, "" of none. Where all that is written to it is encrypted, here or below, it is
    `encrypted`. `processes` are those that hold it, in words. `held_unseen` says that something
    holds it that the kernel does not name."""

    size: int | None = None
    kernel_name: str = ""
    encryption: str = ""
    encrypted: bool = False
    processes: tuple[str, ...] = ()
    held_unseen: bool = False

    @property
    def encryption_words(self) -> str:
        """What a column about encryption says."""
        return self.encryption or (BELOW if self.encrypted else "")


@dataclass(frozen=True)
class Seen:
    """The facts of all layers by their ids, the names of processes that are never ended, since
    storage needs them, and what could not be seen."""

    facts: Mapping[str, Facts]
    daemons: frozenset[str] = frozenset()
    problems: tuple[str, ...] = field(default=())


def gather(kernel: Kernel, stack: Stack) -> Seen:
    """Ask about all layers of a stack. Never raises."""
    problems: list[str] = []
    held = _processes(kernel, stack, problems)
    areas = {area.path: area.size * KIB for area in swaps(kernel, problems)}
    covered = _encrypted(stack)
    found = {}
    for layer in stack.layers:
        users = tuple(map(printable, held.get(layer.id, ())))
        found[layer.id] = Facts(
            size=areas.get(layer.path) if isinstance(layer, Swap) else _size(kernel, layer),
            kernel_name=targets.kernel_name(kernel, layer) if _is_block(layer) else "",
            encryption=_encryption(layer),
            encrypted=layer.id in covered,
            processes=users,
            held_unseen=not users and _is_open(kernel, stack, layer),
        )
    return Seen(found, _daemons(kernel), tuple(problems))


def _is_block(layer: Layer) -> bool:
    return layer.id.startswith("block:")


def _size(kernel: Kernel, layer: Layer) -> int | None:
    """Return the size of a block device, or of that which a mount is of."""
    if not layer.device:
        return None
    try:
        return int(text(kernel, f"/sys/dev/block/{layer.device}/size")) * SECTOR
    except (OSError, ValueError):
        return None  # no block device, as of most of the kernel's own file systems, or gone


def _encryption(layer: Layer) -> str:
    """Return how a layer encrypts, "" if it does not, as far as is known."""
    if not isinstance(layer, Dm) or "crypt" not in layer.types:
        return ""
    named = (words for start, words in KEYED_BY_UUID.items() if layer.uuid.startswith(start))
    return next(named, "dm-crypt")


def _encrypted(stack: Stack) -> set[str]:
    """Return the layers all of whose data are encrypted before they reach a disk."""
    depths = stack.depths
    by_id = stack.by_id
    found: set[str] = set()
    for layer in sorted(stack.layers, key=lambda each: -depths.get(each.id, -1)):
        lower = [id for id in layer.below if id in by_id and id not in layer.places]
        # Of what stands in a circle it is not said: `lower` may then come later.
        if _encryption(layer) or (lower and found.issuperset(lower)):
            found.add(layer.id)
    return found


def _is_open(kernel: Kernel, stack: Stack, layer: Layer) -> bool:
    """Whether a mapped device on which nothing is seen to stand is open all the same."""
    if not isinstance(layer, Dm) or stack.above[layer.id]:
        return False
    try:
        return kernel.dm_info(layer.device).open_count > 0
    except OSError:
        return False


def _processes(kernel: Kernel, stack: Stack, problems: list[str]) -> dict[str, list[str]]:
    """Return who holds each layer, but for the layers on it."""
    call = kernel.start("holders", lambda: holders.find(kernel, stack))
    kernel.wait((call,), HOLDERS_SECONDS)
    if not isinstance(call.value, dict):
        why = describe(call.error) if call.error else f"no answer in {HOLDERS_SECONDS:.0f} s"
        problems.append(f"cannot see which processes hold what: {why}")
        return {}
    layers = stack.by_id
    above = {id: {layers[user].title for user in users} for id, users in stack.above.items()}
    return {
        id: [words for words in found if words not in above.get(id, ())]
        for id, found in call.value.items()
    }


def _daemons(kernel: Kernel) -> frozenset[str]:
    """Return the names of processes that are not ended at shutdown, in bounded time."""
    population = Population(kernel)

    def look() -> frozenset[str]:
        return frozenset(
            process.title
            for process in all_processes(kernel)
            if population.is_storage_daemon(process.pid)
        )

    call = kernel.start("storage daemons", look)
    kernel.wait((call,), HOLDERS_SECONDS)
    return call.value if isinstance(call.value, frozenset) else frozenset()
