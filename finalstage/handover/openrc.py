"""OpenRC, whose services know of a reboot by their environment. Source: main() in
src/openrc/rc.c (set_env_vars, RC_REBOOT); openrc-run(8)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def verb(environment: Mapping[str, str]) -> str:
    """Return reboot where that was asked for; all else looks alike."""
    return "reboot" if environment.get("RC_REBOOT") == "YES" else ""
