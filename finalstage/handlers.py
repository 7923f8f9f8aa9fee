"""Programs that the kernel starts by itself: none any more, and none is kept for that.

A rule of binfmt_misc with the flag F holds its interpreter open, and with it the file system on
which that lies. To unmount binfmt_misc takes it back where nobody holds that, and in kernels before
6.7 not even then. Source: Documentation/admin-guide/binfmt-misc.rst, bm_register_write() and
bm_evict_inode() in fs/binfmt_misc.c; core(5).
systemd-shutdown does the same: disable_coredumps(), disable_binfmt().
"""

from __future__ import annotations

from finalstage.layers.mount import Mount
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.stack import Stack

CORE_PATTERN = "/proc/sys/kernel/core_pattern"


def dismiss(kernel: Kernel, stack: Stack) -> list[str]:
    """Have crashes leave no core, and drop the rules of binfmt_misc; return what failed."""
    places = [
        (f"{layer.target}/status", b"-1\n", "drop the rules of binfmt_misc")
        for layer in stack.layers
        if isinstance(layer, Mount) and layer.type == "binfmt_misc" and layer.writable
    ]
    problems = []
    for path, data, what in ((CORE_PATTERN, b"|/bin/false\n", "forbid core dumps"), *places):
        try:
            kernel.write(path, data)
        except FileNotFoundError:
            continue  # a kernel without core dumps
        except OSError as error:
            problems.append(f"cannot {what}: {describe(error)}")
    return problems
