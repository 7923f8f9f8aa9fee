"""The kernel's NFS server: stopped, so that the file systems that it exports can be unmounted.

Sources: write_threads() in fs/nfsd/nfsctl.c, nfsd_show() in stats.c.
"""

from __future__ import annotations

from finalstage.layers.filesystems import SERVER_ID
from finalstage.mountinfo import unescape
from finalstage.stack import Layer
from finalstage.world import holding_mount, mount_id, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.world import World

KIND = "nfsd"
STATISTICS = "/proc/net/rpc/nfsd"


class Server(Layer):
    """All threads of the server; `control` is the directory by which it is controlled."""

    control: str = ""


def scan(kernel: Kernel, world: World) -> list[Server]:
    """The server, if it runs. It stands on the mounts of what it exports, as far as it has been
    asked for by anybody yet."""
    controls = [mount for mount in world.mounts if mount.fstype == "nfsd"]
    if not controls:
        return []
    control = controls[-1]
    # Not from `threads` there: whoever reads that waits for those that are being stopped.
    threads = [
        line.split()[1] for line in text(kernel, STATISTICS).splitlines() if line[:3] == "th "
    ]
    if threads in ([], ["0"]):
        return []
    lines = text(kernel, f"{control.target}/exports").splitlines()
    exports = [holding_mount(world, unescape(line.split("\t")[0])) for line in lines]
    below = dict.fromkeys((mount_id(control.id), *exports))
    return [
        Server(
            id=SERVER_ID,
            kind=KIND,
            type="NFS",
            name="server",
            below=tuple(id for id in below if id),
            control=control.target,
        )
    ]


def close(kernel: Kernel, layer: Layer) -> None:
    """Stop all of its threads; the last one drops the exports."""
    assert isinstance(layer, Server)
    kernel.write(f"{layer.control}/threads", b"0\n")


def settle(kernel: Kernel, layer: Layer) -> None:
    """Nothing: what clients have had written is in the file systems that it exports."""
