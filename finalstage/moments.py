"""The administrator's own programs, which the tree carries along: run at named moments.

Those of one moment are run in the order of their names, with the tree as their root, where nothing
of the old root is to be seen: finalstage/launcher/hooks.c. None can hold what has to be closed, and
none goes on when its time is over. None is run twice, also where the stage dies and begins again.
"""

from __future__ import annotations

from finalstage import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from finalstage.kernel import Kernel
    from finalstage.lines import Line

START, CLOSED, LAST = "start", "closed", "last"
"""Before anybody is asked to end; when all is closed and sealed; when nothing is left to do but
reboot(2), and no key is left."""

ALL = (START, CLOSED, LAST)

FOLDER = "/etc/finalstage/hooks"
"""In the tree, with a folder in it for each moment."""

SHARE = 1 / 8
"""How much of the whole those of one moment may take together."""


def are_there(kernel: Kernel, moment: str, until: float) -> bool:
    """Whether there may be any for a moment."""
    return hooks.are_there(kernel, (f"{FOLDER}/{moment}",), until)


def run(
    kernel: Kernel, moment: str, verb: str, until: float, each: float, facts: Mapping[str, str]
) -> list[Line]:
    """Run those of a moment, one for `each` seconds at most, and all of them not past `until`.
    `facts` are in their environment. Return what did not go well."""

    def act(seconds: float) -> list[str]:
        return kernel.run_moment(moment, verb, seconds, each, facts)

    return hooks.run_bounded(kernel, f"hooks/{moment}", act, until)
