"""Device-mapper devices. Source: drivers/md/dm.c, dm-ioctl.c, dm-crypt.c."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from finalstage.kernel import DmStatus, Target
from tests.sim.faults import BlockedError, error
from tests.sim.kind import Kind
from tests.sim.kinds.mount import Mount, Unseen
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel


MIRRORS = frozenset(("mirror", "raid"))
"""Targets that go on as long as one of what they rest on does."""


@dataclass
class Dm(Device):
    """A device with a live table of `targets`, or none. If it is `keyed`, each crypt target has a
    key that can be wiped, and any other target keys in ways of its own.

    If `queues`, it is a multipath without a path that queues everything. A `deferred` one goes
    as soon as nothing holds it any more. A `held` one is a thin volume that its pool keeps from
    going on.
    """

    title: str = ""
    uuid: str = ""
    targets: tuple[Target, ...] = ()
    suspended: bool = False
    inactive_table: bool = False
    keyed: bool = False
    wiped: set[int] = field(default_factory=set)
    error_loaded: bool = False
    queues: bool = False
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
        return self.suspended or self.queues or self.dead or not self.targets

    def breaks(self, below: list[bool]) -> bool:
        types = {target.type for target in self.targets}
        if self.failing or "error" in types or ("multipath" in types and not below):
            return True
        return all(below) if below and types <= MIRRORS else any(below)

    def has_key(self) -> bool:
        whole = self.crypts() and all(target.type == "crypt" for target in self.targets)
        return self.inactive_table or (self.keyed and not (whole and self.crypts() <= self.wiped))

    def goes_at_last_close(self) -> bool:
        return self.deferred

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return found if name else [*found, "dm"]

    def dm_status(self, kernel: SimKernel) -> DmStatus:
        """Describe it, and its segments."""
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
        """Remove it: EBUSY while anything holds it."""
        kernel.close(self)

    def dm_clear(self, kernel: SimKernel) -> None:
        """Drop the inactive table."""
        self.inactive_table = self.error_loaded = False

    def dm_suspend(self, kernel: SimKernel, lockfs: bool, flush: bool) -> None:
        """Hold I/O, once none is in flight any more: __dm_suspend(). With `flush`, multipath
        gives up what it queues: multipath_presuspend(). With `lockfs` too, all is written that is
        dirty in a file system, and in the page cache: freeze_bdev()."""
        if self.suspended:
            return
        if flush and self.queues:
            self._fail_queue(kernel)
        if flush and lockfs:
            for thing in (*kernel.machine.mounts, *kernel.machine.others):
                if isinstance(thing, Mount | Unseen) and thing.device == self.device:
                    thing.write_back(kernel)
            if self.unsaved() and kernel.machine.blocked(self.device):
                raise BlockedError(self.device)
            if not kernel.machine.fails(self.device):
                self.pass_down(kernel.machine)
        if kernel.in_flight(self):
            raise BlockedError(self.device)
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
        if self.held:
            raise BlockedError(self.device)
        if not self.error_loaded:
            self._hold(kernel, False)
        if self.error_loaded:
            self.dm_suspend(kernel, lockfs=False, flush=False)
            kernel.bury(self)
            self.targets = (Target(0, self.sectors, "error"),)
            self.below, self.keyed, self.error_loaded = (), False, False
            self.queues = False
        elif self.crypts() and (not self.keyed or self.wiped):
            raise error(errno.EAGAIN, self.device)  # crypt_preresume()
        if not self.targets:
            raise error(errno.EINVAL, self.device)
        self.suspended = False
        kernel.let_go()

    def _fail_queue(self, kernel: SimKernel) -> None:
        """Have a multipath without a path fail what it gets, and what it has queued."""
        self.queues, self.failing = False, self.queues or self.failing
        kernel.let_go()

    def dm_message(self, kernel: SimKernel, sector: int, message: str) -> None:
        """Multipath gives up what it queues, crypt its key while suspended: target_message()."""
        if not self.targets:
            raise error(errno.EINVAL, self.device)
        type = next((target.type for target in self.targets if target.start == sector), "")
        if type == "multipath" and message == "fail_if_no_path":
            if self.suspended:
                raise error(errno.EBUSY, self.device)
            self._fail_queue(kernel)
        elif type == "crypt" and message == "key wipe" and self.suspended:
            kernel.bury(self)
            self.wiped.add(sector)
        else:
            raise error(errno.EINVAL, self.device)


class DmKind(Kind):
    """Device-mapper devices."""

    name = "dm"

    def draw(self, builder: Builder) -> None:
        """Put a linear or an encrypted one on another device; those have two segments."""
        below = builder.take()
        minor = builder.next(253)
        keyed = bool(builder.number(1))
        targets = (
            (Target(0, 1024, "crypt"), Target(1024, 1024, "crypt"))
            if keyed
            else (Target(0, 2048, "linear"),)
        )
        name = f"{'crypt' if keyed else 'linear'}{minor}"
        builder.put(
            Dm(f"dm-{minor}", f"253:{minor}", (below,), title=name, targets=targets, keyed=keyed)
        )

    def trouble(self, builder: Builder) -> None:
        """Let some be suspended, and some have an inactive table."""
        for device in builder.of(Dm):
            luck = builder.number(7)
            device.suspended = luck == 0
            device.inactive_table = luck == 1
