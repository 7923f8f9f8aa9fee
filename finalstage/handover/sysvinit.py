"""sysvinit, which executes itself once more, and finds us in its place.

Its only argument is then ``--init``, and the verb is recorded in a file. Its environment tells too
where the last script of a runlevel executes us. Source: my_re_exec(), init_buildenv() in
src/init.c; init(8), shutdown(8).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

RUNLEVELS = {"0": "poweroff", "6": "reboot"}
"""Others mean nothing: busybox gives RUNLEVEL too, and with it what init itself was called with."""


def arguments(given: list[str]) -> list[str]:
    """Return the arguments without what only sysvinit understands."""
    return [] if given == ["--init"] else given


def verb(environment: Mapping[str, str]) -> str:
    """Return what the runlevel says, if anything."""
    found = RUNLEVELS.get(environment.get("RUNLEVEL", ""), "")
    if found == "poweroff" and environment.get("INIT_HALT") == "HALT":
        return "halt"
    return found
