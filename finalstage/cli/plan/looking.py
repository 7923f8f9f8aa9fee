"""A kernel that can only be asked, for verbs that change nothing, whoever calls them.

It has no way to write, to mount, to send a signal or to open a device. What is refused to who is
not root it leaves out, and counts.
"""

from __future__ import annotations

import os
from errno import ENXIO
from typing import cast

from finalstage.kernel import DmStatus, Kernel, Stat, Target, dm
from finalstage.kernel.linux import DM_CONTROL, LinuxKernel
from finalstage.world import text, text_if_there

BY_UUID = {
    "CRYPT-VERITY-": "verity",
    "CRYPT-INTEGRITY-": "integrity",
    "CRYPT-SUBDEV-": "integrity",
    "CRYPT-": "crypt",
    "LVM-": "volume",
    "mpath-": "multipath",
    "part": "linear",
}
"""How UUIDs of mapped devices begin, and what such devices are: dm_prepare_uuid() in cryptsetup's
lib/libdevmapper.c, UUID_PREFIX in lvm2's lib/misc/lvm-globals.h; multipath-tools and kpartx. Of a
volume it is not said by which targets it is mapped."""


class Looking:
    """The part of a `Kernel` that looks. `silent` are devices of the mapper's whose tables could
    not be asked for, `closed` the numbers of processes whose open files are not shown to us."""

    def __init__(self) -> None:
        kernel = LinuxKernel(speaks=False)
        self.pid = kernel.pid
        self._kernel = kernel
        self.now, self.sleep = kernel.now, kernel.sleep
        self.start, self.wait = kernel.start, kernel.wait
        self.silent: set[str] = set()
        self.closed: set[str] = set()
        self._control = -1

    @property
    def as_kernel(self) -> Kernel:
        """Itself, for who asks for a kernel and only looks: anything else is an AttributeError."""
        return cast(Kernel, self)

    def read(self, path: str) -> bytes:
        return self._kernel.read(path)

    def readlink(self, path: str) -> str:
        return self._kernel.readlink(path)

    def listdir(self, path: str) -> list[str]:
        try:
            return self._kernel.listdir(path)
        except PermissionError:
            if path.startswith("/proc/") and path.endswith("/fd"):
                self.closed.add(path.split("/")[2])
            raise

    def stat(self, path: str) -> Stat:
        return self._kernel.stat(path)

    def dm_status(self, device: str) -> DmStatus:
        """What the mapper says or, where it does not answer us, what /sys does."""
        try:
            return dm.status(self._mapper(), device)
        except OSError as error:
            return self._by_sys(device, error)

    def dm_info(self, device: str) -> DmStatus:
        """The same without segments."""
        try:
            return dm.info(self._mapper(), device)
        except OSError as error:
            return self._by_sys(device, error)

    def _mapper(self) -> int:
        # Who only asks needs no right to write: dm_ctl_ioctl() looks at capabilities alone.
        if self._control < 0:
            self._control = os.open(DM_CONTROL, os.O_RDONLY | os.O_CLOEXEC)
        return self._control

    def _by_sys(self, device: str, error: OSError) -> DmStatus:
        """Documentation/ABI/testing/sysfs-block-dm. A device has a UUID before it has a table, but
        hardly for longer than a moment."""
        if error.errno == ENXIO:
            raise error
        path = f"/sys/dev/block/{device}"
        kernel = self.as_kernel
        uuid = text_if_there(kernel, f"{path}/dm/uuid")
        type = next((type for start, type in BY_UUID.items() if uuid.startswith(start)), "dm")
        self.silent.add(device)
        return DmStatus(
            name=text(kernel, f"{path}/dm/name"),
            uuid=uuid,
            open_count=0,
            suspended=text_if_there(kernel, f"{path}/dm/suspended") == "1",
            readonly=text_if_there(kernel, f"{path}/ro") == "1",
            live_table=True,
            inactive_table=False,
            targets=(Target(0, int(text(kernel, f"{path}/size")), type),),
        )
