"""What other machines have a say in: volumes, arrays and file systems of clusters.

Closed here alone, its locks would stay taken, or whoever runs the cluster would take this machine
for broken. What gives the locks back as well is named.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from finalstage.cli.close import lvm
from finalstage.cli.targets import shown
from finalstage.kernel import Kernel
from finalstage.layers.dm import Dm
from finalstage.layers.md import Md
from finalstage.layers.mount import Mount
from finalstage.stack import Layer, Stack
from finalstage.world import text_if_there

LVMLOCKD = "/run/lvm/lvmlockd.socket"
SANLOCK_VOLUME = "lvmlock"
"""The hidden volume in which sanlock has the locks of a volume group, active while they are used:
lvmlockd(8)."""

DLM = "/sys/kernel/dlm"
LOCKSPACE = "lvm_"
"""What the name of a volume group's lockspace begins with: LVM_LS_PREFIX in lvmlockd-internal.h."""

GFS2 = "/sys/fs/gfs2"


def refusals(kernel: Kernel, stack: Stack, layers: Sequence[Layer]) -> list[str]:
    """Return why some layers must not be closed here, a line each."""
    found = []
    for name, volumes in lvm.groups(layers).items():
        if who := _sharing(kernel, stack, name, volumes[0]):
            titles = ", ".join(volume.title for volume in volumes)
            what = f"volume group {name} is shared with other machines by {who}"
            found.append(f"cannot close {titles}: {what}; use `vgchange -an {shlex.quote(name)}`")
    for layer in layers:
        if isinstance(layer, Md) and _is_clustered(kernel, layer):
            what = f"cannot close {layer.title}: it is an array of a cluster"
            found.append(f"{what}; use `mdadm --stop /dev/{layer.name}`")
        elif isinstance(layer, Mount) and (who := _cluster_of(kernel, layer)):
            what = f"cannot close {layer.title}: it is mounted on other machines too, by {who}"
            found.append(f"{what}; use `umount {shown(layer.target)}`")
    return found


def _sharing(kernel: Kernel, stack: Stack, name: str, volume: Dm) -> str:
    """Return who keeps the locks of a volume group that machines share, or ""."""
    if LOCKSPACE + name in _names(kernel, DLM):
        return "lvmlockd (dlm)"
    for each in lvm.groups(stack.layers).get(name, ()):
        if each.name.endswith(f"-{SANLOCK_VOLUME}"):
            return "lvmlockd (sanlock)"
    if group := lvm.group_of(kernel, stack, volume):
        return group.sharing
    # No disk of it can be read. Whoever has activated a shared one has lvmlockd running.
    return "lvmlockd, as far as can be seen" if _exists(kernel, LVMLOCKD) else ""


def _is_clustered(kernel: Kernel, array: Md) -> bool:
    """Whether the bitmap of an array is one for several machines: metadata_show() in
    drivers/md/md-bitmap.c."""
    path = f"/sys/dev/block/{array.device}/md/bitmap/metadata"
    return text_if_there(kernel, path) == "clustered"


def _cluster_of(kernel: Kernel, mount: Mount) -> str:
    """Return who keeps the locks of a file system that is made for several machines, or "".

    GFS2 knows a mode for one machine alone: fs/gfs2/sys.c has what it says of itself. OCFS2 leaves
    its heartbeat to a helper of umount(8), without which it would go on, and hold the device.
    """
    if mount.type == "ocfs2":
        options = mount.super_options.split(",")
        return "" if "heartbeat=none" in options else "OCFS2's heartbeat"
    if mount.type != "gfs2":
        return ""
    for name in _names(kernel, GFS2):
        if text_if_there(kernel, f"{GFS2}/{name}/id") == mount.device:
            lock = text_if_there(kernel, f"{GFS2}/{name}/lock_module/proto_name")
            return "" if lock == "lock_nolock" else lock
    return "a lock manager that does not show itself"


def _names(kernel: Kernel, path: str) -> Iterable[str]:
    try:
        return kernel.listdir(path)
    except OSError:
        return ()  # its module is not loaded, as nearly always


def _exists(kernel: Kernel, path: str) -> bool:
    try:
        kernel.stat(path)
    except OSError:
        return False
    return True
