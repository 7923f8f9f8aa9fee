"""Device-mapper devices. Source: drivers/md/dm.c, dm-ioctl.c, dm-crypt.c."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from finalstage.kernel import DmStatus, Target
from tests.sim.faults import BlockedError, error
from tests.sim.kind import Kind
from tests.sim.kinds.mount import Frozen, Mount, Unseen
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel
    from tests.sim.machine import Machine


OTHER_KEYS = frozenset(("integrity", "default-key", "inlinecrypt"))
"""Targets whose key no message wipes."""

MIRRORS = frozenset(("mirror", "raid"))
"""Targets that go on as long as one of what they rest on does."""

WITH_METADATA = frozenset(("thin-pool", "thin", "cache", "era"))
"""Targets that ask their metadata what their status is."""


@dataclass
class Dm(Device):
    """A device with a live table of `targets`, or none. If it is `keyed`, each crypt target has a
    key that can be wiped, and any other target keys in ways of its own.

    If `queues`, it is a multipath without a path that queues everything, the paths to `lost` among
    them; if `patient`, it does so whenever its last one is lost. A `deferred` one goes as soon as
    nothing holds it any more. A `held` one is a thin volume that its pool keeps from going on. One
    that is `suspending` waits for what is in flight, and takes nothing more.
    """

    title: str = ""
    uuid: str = ""
    targets: tuple[Target, ...] = ()
    suspended: bool = False
    suspending: bool = False
    inactive_table: bool = False
    keyed: bool = False
    wiped: set[int] = field(default_factory=set)
    error_loaded: bool = False
    queues: bool = False
    patient: bool = True
    lost: set[str] = field(default_factory=set)
    deferred: bool = False
    held: bool = False

    kind: ClassVar[str] = "dm"

    @property
    def label(self) -> str:
        return self.title or self.name

    def crypts(self) -> set[int]:
        """Return where its crypt targets begin."""
        return {target.start for target in self.targets if target.type == "crypt"}

    def unsaved(self) -> bool:
        return self.dirty and bool(self.targets)

    def waits(self) -> bool:
        if not self.targets:
            return False  # dm_submit_bio() fails what it gets, suspended or not
        return self.suspended or self.suspending or self.queues or self.dead

    def rests_on(self, machine: Machine) -> Iterable[str]:
        """What is to be overwritten in an origin is copied to its snapshots' stores first:
        origin_write_extent(). Where that fails, only the snapshot is lost."""
        devices = machine.devices.values() if self.is_origin() else ()
        snapshots = [each for each in devices if isinstance(each, Dm) and self.is_origin_of(each)]
        return (*self.below, *(snapshot.below[1] for snapshot in snapshots))

    def breaks(self, below: list[bool]) -> bool:
        types = {target.type for target in self.targets}
        if self.is_origin():
            return self.failing or any(below[:1])
        if self.failing or not types or "error" in types or ("multipath" in types and not below):
            return True
        return all(below) if below and types <= MIRRORS else any(below)

    def cure(self) -> None:
        self.suspended = self.suspended and self.refuses_to_resume()
        self.queues, self.failing = False, self.queues or self.failing

    def refuses_to_resume(self) -> bool:
        """Whether it cannot go on with its table: crypt_preresume() wants all keys."""
        return not self.targets or (bool(self.crypts()) and (not self.keyed or bool(self.wiped)))

    def has_key(self) -> bool:
        others = any(target.type in OTHER_KEYS for target in self.targets)
        return self.inactive_table or (self.keyed and (others or not self.crypts() <= self.wiped))

    def goes_at_last_close(self) -> bool:
        return self.deferred

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return found if name else [*found, "dm"]

    def dm_status(self, kernel: SimKernel) -> DmStatus:
        """Describe it, and its segments. What has metadata does not answer while that is being
        written, nor does era while it is suspended: era_status() in dm-era-target.c."""
        writes = any(target.type in WITH_METADATA for target in self.targets)
        if (writes and kernel.in_flight(self)) or (self.is_a("era") and self.suspended):
            raise BlockedError(self.device)
        return self.dm_info(kernel).but(targets=self.targets)  # type: ignore[no-any-return]

    def dm_info(self, kernel: SimKernel) -> DmStatus:
        """Describe it without asking a target."""
        return DmStatus(
            name=self.title or self.name,
            uuid=self.uuid,
            open_count=len(kernel.machine.holders(self.device)),
            suspended=self.suspended,
            readonly=False,
            live_table=bool(self.targets),
            inactive_table=self.inactive_table or self.error_loaded,
        )

    def dm_remove(self, kernel: SimKernel) -> None:
        """Remove it: EBUSY while anything holds it. The kernel would let a snapshot go before its
        origin; what is then written to that changes what was kept: origin_write_extent()."""
        kernel.refuse_while_held(self)
        for other in kernel.machine.devices.values():
            if isinstance(other, Dm) and other.is_origin_of(self):
                kernel.violations.append(f"removed {self.label} before {other.label}")
        kernel.close(self)

    def is_origin_of(self, snapshot: Dm) -> bool:
        """Whether a snapshot keeps what is overwritten in this."""
        kept = any(target.type == "snapshot" for target in snapshot.targets)
        return self.is_origin() and kept and self.below[:1] == snapshot.below[:1]

    def is_origin(self) -> bool:
        """Whether there may be snapshots of what it maps."""
        return any(target.type == "snapshot-origin" for target in self.targets)

    def may_have_key(self) -> bool:
        """Whether it has a key by all that can be seen from outside."""
        return self.inactive_table or any(
            target.type == "crypt" or target.type in OTHER_KEYS for target in self.targets
        )

    def dm_clear(self, kernel: SimKernel) -> None:
        """Drop the inactive table."""
        self.inactive_table = self.error_loaded = False

    def dm_suspend(self, kernel: SimKernel, lockfs: bool, flush: bool) -> None:
        """Hold I/O, once none is in flight any more: __dm_suspend(). With `flush` and `lockfs`, all
        is written that is dirty in a file system, and in the page cache: freeze_bdev(). Multipath
        fails meanwhile what it queues, until it goes on: multipath_presuspend(). With `flush` alone
        it is stopped before it gets to that."""
        if self.suspended:
            return
        if self.held or self.suspending:
            raise BlockedError(self.device)
        if flush and lockfs:
            if Frozen(self.device) in kernel.machine.others:
                raise error(errno.EBUSY, self.device)
            if self._freeze(kernel):
                raise error(errno.EIO, self.device)
            if self.unsaved() and kernel.machine.blocked(self.device):
                raise BlockedError(self.device)
            if not kernel.machine.fails(self.device):
                self.pass_down(kernel.machine)
        self._wait_for_flight(kernel)

    def _freeze(self, kernel: SimKernel) -> bool:
        """Write out the file systems on it, and return whether that has failed: freeze_super()."""
        machine = kernel.machine
        mounts = [
            thing
            for thing in (*machine.mounts, *machine.others)
            if isinstance(thing, Mount | Unseen) and thing.device == self.device
        ]
        wrote = any(mount.unsaved() for mount in mounts)
        if self.queues:
            self._fail_queue(kernel)
        for mount in mounts:
            mount.write_back(kernel)
        return wrote and machine.fails(self.device)

    def _wait_for_flight(self, kernel: SimKernel) -> None:
        self.suspending = kernel.in_flight(self)
        if self.suspending:
            rest = lambda: self._wait_for_flight(kernel)  # noqa: E731
            raise BlockedError(self.device, suspends=True, rest=rest)
        self.suspended = True
        self._hold(kernel, True)

    def _hold(self, kernel: SimKernel, held: bool) -> None:
        """Have the thin volumes of a pool suspended too: pool_presuspend()."""
        if self.is_a("thin-pool"):
            for other in kernel.machine.devices.values():
                if isinstance(other, Dm) and other.is_a("thin") and self.device in other.below:
                    other.held = held

    def is_a(self, kind: str) -> bool:
        """Whether it has a target of a type."""
        return any(target.type == kind for target in self.targets)

    def dm_load_error(self, kernel: SimKernel, sectors: int) -> None:
        """Load a table in which all I/O fails. It takes the place of one that was loaded before."""
        if not sectors:
            raise error(errno.EINVAL, self.device)
        self.error_loaded, self.inactive_table = True, False

    def dm_resume(self, kernel: SimKernel) -> None:
        """Go on, with the table that was loaded: __do_resume() in dm-ioctl.c."""
        if self.held or self.suspending:
            raise BlockedError(self.device)
        if not self.error_loaded:
            self._hold(kernel, False)
        if self.error_loaded:
            self.dm_suspend(kernel, lockfs=False, flush=False)
            kernel.bury(self)
            self.targets = (Target(0, self.sectors, "error"),)
            let_go, self.below = self.below, ()
            self.keyed = self.error_loaded = self.queues = False
            for lower in let_go:
                kernel.machine.closed(lower)
        elif self.refuses_to_resume():
            raise error(errno.EAGAIN if self.targets else errno.EINVAL, self.device)
        self.suspended = False
        self._queue()
        kernel.let_go()

    def _queue(self) -> None:
        """Have a multipath without a path queue what it gets, if it is to: multipath_resume()."""
        if self.is_a("multipath") and self.patient and self.lost.issuperset(self.below):
            self.queues, self.failing = True, False

    def _fail_queue(self, kernel: SimKernel) -> None:
        """Have a multipath without a path fail what it gets, and what it has queued."""
        self.queues, self.failing = False, self.queues or self.failing
        kernel.let_go()

    def _lose_path(self, path: str) -> None:
        self.lost.add(path)
        if self.lost.issuperset(self.below):
            self.targets = tuple(target.but(status=NO_PATH) for target in self.targets)
            self._queue()
            self.failing |= not self.queues

    def dm_message(self, kernel: SimKernel, sector: int, message: str) -> None:
        """Multipath loses a path, or gives up what it queues; crypt gives up its key while
        suspended: target_message()."""
        if not self.targets:
            raise error(errno.EINVAL, self.device)
        at = next((x for x in self.targets if x.start <= sector < x.start + x.length), None)
        if at is None:
            raise error(errno.EINVAL, self.device)
        type = at.type
        if type == "multipath" and self.suspended:
            raise error(errno.EBUSY, self.device)
        if type == "multipath" and message == "fail_if_no_path":
            self.patient = False
            self._fail_queue(kernel)
        elif type == "multipath" and message.startswith("fail_path "):
            self._lose_path(message.partition(" ")[2])
        elif type == "crypt" and message == "key wipe" and self.suspended:
            kernel.bury(self)
            self.wiped.add(at.start)
        else:
            raise error(errno.EINVAL, self.device)


ODD_NAMES = ("", "", "", "", " b", "\n", "\x1b[2J", "\\x20", "\u00e9", '"')

PATH = "2 0 0 0 1 1 A 0 1 2 8:0 A 0 0 1 "
NO_PATH = "2 0 0 0 1 1 E 0 1 2 8:0 F 1 0 1 "
"""What multipath_status() says."""


class DmKind(Kind):
    """Device-mapper devices: one or several tables that belong together."""

    name = "dm"

    def draw(self, builder: Builder) -> None:
        """Put one or several on other devices."""
        luck = builder.number(19)
        if luck < 5:
            _put(builder, ("linear",), (builder.take(),))
        elif luck < 10:
            segments = (("crypt",), ("crypt", "crypt"), ("linear", "crypt"))[builder.number(2)]
            _put(builder, segments, (builder.take(),), keyed=True)
        elif luck == 10:
            lower = _put(builder, ("integrity",), (builder.take(),), keyed=True, free=False)
            _put(builder, ("crypt",), (lower,), keyed=True)
        elif luck == 11:
            _put(builder, ("integrity",), (builder.take(),), keyed=bool(builder.number(1)))
        elif luck == 12:
            pool = _put(builder, ("thin-pool",), (builder.take(), builder.take()), free=False)
            for _ in range(1 + builder.number(3)):
                _put(builder, ("thin",), (pool,))
        elif luck == 13:
            real = _put(builder, ("linear",), (builder.take(),), free=False)
            stores = [builder.take() for _ in range(1 + builder.number(1))]
            _put(builder, ("snapshot-origin",), (real,))
            for store in stores:
                _put(builder, ("snapshot",), (real, store))
        elif luck == 14:
            _put(builder, ("cache",), tuple(builder.take() for _ in range(3)))
        elif luck == 15:
            below = (builder.take(), builder.take())
            _put(builder, (("writecache", "verity")[builder.number(1)],), below)
        elif luck == 16:
            below = (builder.take(), builder.take())
            _put(builder, (("mirror", "raid", "striped")[builder.number(2)],), below)
        elif luck == 17:
            _put(builder, ("multipath",), (builder.take(),), status=PATH)
        elif luck == 18:
            _put(builder, (("delay", "era", "clone")[builder.number(2)],), (builder.take(),))
        else:
            _put(builder, (), (), free=False)

    def trouble(self, builder: Builder) -> None:
        """Let some be suspended, some have an inactive table, some go at the last close, and some
        have no path left."""
        for device in builder.of(Dm):
            luck = builder.number(9)
            device.suspended = luck == 0
            device.inactive_table = luck == 1
            device.deferred = luck == 2 and bool(builder.machine.holders(device.device))
            if luck < 5 and any(target.type == "multipath" for target in device.targets):
                device.queues = True
                device.targets = tuple(target.but(status=NO_PATH) for target in device.targets)


def _put(
    builder: Builder,
    types: tuple[str, ...],
    below: tuple[str, ...],
    keyed: bool = False,
    free: bool = True,
    status: str = "",
) -> str:
    """Add a device with a segment of each type; something can stand on it if it is `free`."""
    minor = builder.next(253)
    targets = tuple(Target(number * 1024, 1024, type, status) for number, type in enumerate(types))
    name = "+".join(types) + str(minor) + ODD_NAMES[builder.number(len(ODD_NAMES) - 1)]
    device = Dm(
        f"dm-{minor}",
        f"253:{minor}",
        below,
        sectors=1024 * len(types),
        title=name,
        targets=targets,
        keyed=keyed,
    )
    builder.put(device)
    if not free:
        builder.free.remove(device.device)
    return device.device
