"""What the tools of storage would have noted when something is closed, and now is noted by us."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from finalstage.cli.close import lock_files, lvm
from finalstage.cli.systemd import Systemd, escape_word, is_here
from finalstage.kernel import Kernel
from finalstage.layers.dm import Dm
from finalstage.layers.md import Md
from finalstage.stack import Layer
from finalstage.world import describe

ONLINE = Path("/run/lvm/vgs_online")
"""Where LVM has a file for each volume group that udev has activated. It is removed when a volume
is closed, so that the group is activated once more when its disks are taken out and put back:
lv_change_activate() in tools/toollib.c of lvm2."""

MAP = Path("/run/mdadm/map")
"""Where mdadm has the names of arrays: mapfile.c of mdadm."""

MAP_SECONDS = 5.0
"""How long mdadm may keep others from it."""

SETUPS = ("cryptsetup", "integritysetup", "veritysetup")
"""The services of systemd that open mapped devices."""


def note(kernel: Kernel, closed: Sequence[Layer]) -> list[str]:
    """Note that layers have been closed where their tools would. Return what cannot be noted, or is
    for somebody else to note, a line each."""
    for name in lvm.groups(closed):
        try:
            (ONLINE / name).unlink()
        except OSError:
            pass  # udev has not activated it, as on most machines
    found = _forget_arrays(kernel, [layer for layer in closed if isinstance(layer, Md)])
    mapped = [each for each in closed if isinstance(each, Dm) and not lvm.is_volume(each)]
    if mapped and is_here():
        found += _still_active(mapped)
    return found


def _forget_arrays(kernel: Kernel, arrays: Iterable[Layer]) -> list[str]:
    """Take arrays out of mdadm's map, as `mdadm --stop` does. It is replaced as a whole."""
    gone = {array.name for array in arrays}
    if not gone or not MAP.exists():
        return []
    try:
        with lock_files.held(kernel, MAP.with_name("map.lock"), kernel.now() + MAP_SECONDS):
            lines = MAP.read_text(errors="surrogateescape").splitlines(keepends=True)
            kept = [line for line in lines if line.split(" ")[0] not in gone]
            new = MAP.with_name("map.new")
            new.write_text("".join(kept), errors="surrogateescape")
            os.replace(new, MAP)
    except OSError as error:  # TimeoutError is one
        why = describe(error) if error.errno else "somebody has it locked"
        return [f"cannot take {', '.join(sorted(gone))} out of {MAP}: {why}"]
    return []


def _still_active(mapped: Sequence[Layer]) -> list[str]:
    """Return the services of systemd that count mapped devices as open, and so would not open them
    when somebody needs them."""
    try:
        with closing(Systemd()) as systemd:
            return list(_active_services(systemd, mapped))
    except OSError as error:
        return [f"cannot ask systemd what it takes for open: {describe(error)}"]


def _active_services(systemd: Systemd, mapped: Sequence[Layer]) -> Iterator[str]:
    for layer in mapped:
        name = escape_word(layer.name)
        for unit in systemd.units(f"systemd-{setup}@{name}.service" for setup in SETUPS):
            if unit.is_active:
                stop = f"systemctl stop {shlex.quote(unit.name)}"
                yield f"{unit.name} takes {layer.title} for open; `{stop}`"
