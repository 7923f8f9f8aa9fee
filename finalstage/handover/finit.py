"""finit, whose hook scripts know by their environment how the machine goes down. Source:
plugins/hook-scripts.c, which sets FINIT_SHUTDOWN since 4.4."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def verb(environment: Mapping[str, str]) -> str:
    """Return what it says; nothing where it says nothing."""
    return environment.get("FINIT_SHUTDOWN", "")
