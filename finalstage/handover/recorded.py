"""A file in the tree, `verb`, into which a script of ours has written what init was asked for.

For inits that give no arguments to what they execute at the end: busybox, sysvinit, s6-svscan.
"""

from __future__ import annotations

from finalstage.world import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

PLACE = "/verb"


def verb(kernel: Kernel) -> str:
    """Return its first word; nothing where there is no such file. Raises OSError."""
    try:
        words = text(kernel, PLACE).split()
    except FileNotFoundError:
        return ""
    return words[0] if words else ""
