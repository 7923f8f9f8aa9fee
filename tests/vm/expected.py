"""What a row has to leave, where that is not everything: said outright, so that it can be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """What need not be as after a clean close, and what must stand on the console.

    `unclean` names layers on what does not answer, or answers with errors. `lost` are files there
    that were never synced. `keys_remain` is for what no kernel interface can free: the key may
    be found, but then it must be said that it may remain.
    """

    unclean: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    keys_remain: bool = False
    says: tuple[str, ...] = ()


MAY_REMAIN = "A KEY MAY REMAIN IN MEMORY"
