"""Device-mapper devices. Source: drivers/md/dm.c, dm-ioctl.c, dm-crypt.c."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from finalstage.kernel import DmStatus, Target
from tests.sim.faults import BlockedError, error
from tests.sim.kind import Kind
from tests.sim.machine import Device

if TYPE_CHECKING:
    from tests.sim.builder import Builder
    from tests.sim.kernel import SimKernel


@dataclass
class Dm(Device):
    """A device with a live table of `targets`, or none; `keyed` means that a key is in it.

    One that `queues` is a multipath that has no path left and waits for one. A `deferred` one goes
    by itself when the last that has it open closes it.
    """

    title: str = ""
    uuid: str = ""
    targets: tuple[Target, ...] = ()
    suspended: bool = False
    inactive_table: bool = False
    keyed: bool = False
    error_loaded: bool = False
    queues: bool = False
    deferred: bool = False

    kind: ClassVar[str] = "dm"

    @property
    def label(self) -> str:
        return self.title or self.name

    def waits(self) -> bool:
        return self.suspended or self.dead or self.queues

    def breaks(self, below: list[bool]) -> bool:
        return any(target.type == "error" for target in self.targets) or super().breaks(below)

    def has_key(self) -> bool:
        return self.keyed or self.inactive_table

    def listdir(self, kernel: SimKernel, name: str) -> list[str]:
        found = super().listdir(kernel, name)
        return found if name else [*found, "dm"]

    def flush(self, kernel: SimKernel) -> None:
        """One without a table has nobody who would answer."""
        if not self.targets:
            raise BlockedError
        super().flush(kernel)
        if self.deferred and not kernel.machine.holders(self.device):
            kernel.machine.remove(self)

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
            inactive_table=self.inactive_table,
        )

    def dm_remove(self, kernel: SimKernel) -> None:
        """Remove it: EBUSY while anything holds it."""
        kernel.close(self)

    def dm_clear(self, kernel: SimKernel) -> None:
        """Drop the inactive table."""
        self.inactive_table = False

    def dm_suspend(self, kernel: SimKernel, lockfs: bool, flush: bool) -> None:
        """Hold I/O, once none is in flight any more."""
        machine = kernel.machine
        if machine.blocked(self.device):
            raise BlockedError
        if lockfs:
            for mount in machine.mounts:
                if mount.device == self.device:
                    mount.write_back(kernel)
        self.suspended = True

    def dm_load_error(self, kernel: SimKernel, sectors: int) -> None:
        """Load a table in which all I/O fails."""
        self.error_loaded = True

    def dm_resume(self, kernel: SimKernel) -> None:
        """Go on, with the table that was loaded: crypt_preresume() refuses without a key."""
        crypt = any(target.type == "crypt" for target in self.targets)
        if crypt and not self.keyed and not self.error_loaded:
            raise error(errno.EAGAIN, self.device)
        if self.error_loaded:
            self.targets = (Target(0, self.sectors, "error"),)
            self.below, self.keyed, self.error_loaded = (), False, False
        self.suspended = False
        kernel.let_go()

    def dm_message(self, kernel: SimKernel, sector: int, message: str) -> None:
        """Multipath targets understand ``fail_if_no_path``, unless suspended; crypt targets
        ``key wipe``, and only then."""
        if message == "fail_if_no_path" and any(x.type == "multipath" for x in self.targets):
            if self.suspended:
                raise error(errno.EBUSY, self.device)
            self.queues, self.failing = False, self.queues
            kernel.let_go()
            return
        crypt = [target for target in self.targets if target.type == "crypt"]
        if message != "key wipe" or not any(target.start == sector for target in crypt):
            raise error(errno.EINVAL, self.device)
        if not self.suspended:
            raise error(errno.EINVAL, self.device)
        self.keyed = False


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
