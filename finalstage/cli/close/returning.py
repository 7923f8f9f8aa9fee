"""What would bring back what has been closed: systemd's units, fstab, udev's rules, daemons.

systemd is asked what it knows (systemd.py); of daemons their names are known, not their settings.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from finalstage import mountinfo
from finalstage.cli import fstab
from finalstage.cli.close import lvm
from finalstage.cli.systemd import Systemd, Unit, escape, is_here
from finalstage.kernel import Kernel
from finalstage.layers.dm import Dm
from finalstage.layers.md import Md
from finalstage.layers.mount import Mount
from finalstage.layers.swap import Swap
from finalstage.processes import all_processes
from finalstage.stack import Layer, Stack
from finalstage.world import describe

UDEV = Path("/run/udev/control")
RULES = ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d")
"""Where udev's rules are; one in an earlier place hides those of its name in others: udev(7)."""

MASK = "/run/udev/rules.d"
VOLUME_RULES = ("69-lvm.rules", "69-dm-lvm.rules", "69-dm-lvm-metad.rules")
"""Those that activate volume groups: Debian's, lvm2's own, and the older ones."""

ARRAY_RULES = ("64-md-raid-assembly.rules", "65-md-incremental.rules")

DAEMONS = {
    "pacemakerd": ("starts again what is a resource of its cluster", "pcs resource disable NAME"),
    "gvfs-udisks2-vo": (
        "may mount what appears anew",
        "systemctl --user stop gvfs-udisks2-volume-monitor.service",
    ),
}
"""What daemons do, by what the kernel calls their programs, and what keeps them from it."""

MULTIPATHD = "multipathd"


def returning(
    kernel: Kernel,
    stack: Stack,
    layers: Sequence[Layer],
    names: Mapping[str, Iterable[str]],
) -> Iterator[str]:
    """Yield what would bring layers back, and the command that keeps it from that, a line each.

    `names` are the paths of block devices in /dev, by their numbers.
    """
    yield from _automounted(kernel, layers)
    mounted = [x for x in layers if isinstance(x, Mount | Swap) and x.shown]
    if mounted and is_here():
        try:
            with closing(Systemd()) as systemd:
                yield from _by_units(systemd, mounted, names)
        except OSError as error:
            yield f"cannot ask systemd what it would bring back: {describe(error)}"
    elif mounted:
        yield from _in_fstab(mounted)
    if UDEV.exists():
        yield from _by_rules(kernel, stack, layers)
    yield from _by_daemons(kernel, layers)


def _automounted(kernel: Kernel, layers: Sequence[Layer]) -> Iterator[str]:
    """Yield the automounts whose place a mount has, or whose directory it is in."""
    entries = mountinfo.parse(kernel.read("/proc/self/mountinfo"))
    by_id = {entry.id: entry for entry in entries}
    for layer in layers:
        number = layer.id.removeprefix("mount:")
        entry = by_id.get(int(number)) if isinstance(layer, Mount) else None
        parent = by_id.get(entry.parent) if entry else None
        if not parent or parent.fstype != "autofs":
            continue
        options = dict(each.partition("=")[::2] for each in parent.super_options.split(","))
        who, stop = "the automounter", f"umount {shlex.quote(parent.target)}"
        if options.get("pgrp") == "1" and is_here():
            who = f"{escape(parent.target)}.automount"
            stop = f"systemctl stop {shlex.quote(who)}"
        yield f"{layer.title} is mounted again by {who} when somebody looks into it; `{stop}`"


def _by_units(
    systemd: Systemd, layers: Iterable[Mount | Swap], names: Mapping[str, Iterable[str]]
) -> Iterator[str]:
    for layer in layers:
        paths: tuple[str, ...]
        if isinstance(layer, Mount):
            paths, kind = (layer.target,), ".mount"
        else:
            paths, kind = (layer.path, *names.get(layer.area, ())), ".swap"
        units = systemd.units(f"{escape(path)}{kind}" for path in dict.fromkeys(paths))
        # What is only known since it was mounted by hand is written down nowhere.
        written = {unit.name: unit for unit in units if unit.files}
        for unit in written.values():
            yield from _by_unit(systemd, layer, unit)


def _by_unit(systemd: Systemd, layer: Layer, unit: Unit) -> Iterator[str]:
    """Yield the unit that a layer is, and what starts it without being asked to: others that need
    it. A mask for a while lies in /run, where what is in /etc comes first: systemd.unit(5)."""
    quoted = shlex.quote(unit.name)
    stop = "disable" if unit.files[-1].startswith("/etc/") else "mask --runtime"
    what = f"{layer.title} is {unit.name} ({unit.files[0]}), started when another unit needs it"
    yield f"{what}; `systemctl {stop} {quoted}`"
    for user in systemd.units(unit.needed_by):
        if user.is_active and user.restart != "no":
            what = f"{user.name}, which is restarted when it ends, needs {layer.title}"
            yield f"{what}; `systemctl stop {shlex.quote(user.name)}`"
        for starter in systemd.units(user.starters):
            if starter.is_active:
                what = f"{starter.name} starts {user.name}, which needs {layer.title}"
                yield f"{what}; `systemctl stop {shlex.quote(starter.name)}`"


def _in_fstab(layers: Iterable[Layer]) -> Iterator[str]:
    places = fstab_places(fstab.read())
    for layer in layers:
        if isinstance(layer, Mount) and layer.target in places:
            line = places[layer.target]
            yield f"{layer.title} stands in {fstab.FSTAB}:{line}: `mount -a` mounts it again"


def fstab_places(entries: Iterable[fstab.Entry]) -> dict[str, int]:
    """Return the numbers of the lines in fstab(5) that are mounted by themselves, by their places;
    of several for one place the last."""
    return {
        entry.target or "/": entry.number
        for entry in entries
        if "noauto" not in entry.options and entry.fstype not in ("swap", "none")
    }


def _by_rules(kernel: Kernel, stack: Stack, layers: Sequence[Layer]) -> Iterator[str]:
    """Yield the rules by which udev activates what it finds on devices that stay."""
    closed = {layer.id for layer in layers}
    rule = _rule(VOLUME_RULES) if lvm.setting("event_activation") != "0" else None
    for name, volumes in lvm.groups(layers).items():
        below = [x for volume in volumes for x in lvm.physical_volumes(stack, volume)]
        stay = [lower.title for lower in below if lower.id not in closed]
        group = lvm.group_of(kernel, stack, volumes[0]) if rule and stay else None
        if rule and stay and (group is None or group.by_itself):
            yield _appears(f"volume group {name} is activated", stay, rule)
    rule = _rule(ARRAY_RULES)
    for layer in layers:
        if isinstance(layer, Md):
            stay = [stack.by_id[id].title for id in layer.below if id not in closed]
            if rule and stay:
                yield _appears(f"{layer.title} is assembled", stay, rule)


def _appears(what: str, stay: Sequence[str], rule: Path) -> str:
    """Return the line for a rule. What lies in /etc cannot be masked in /run."""
    devices = " and ".join(dict.fromkeys(stay))
    stop = f"mkdir -p {MASK} && ln -s /dev/null {MASK}/{rule.name}"
    if rule.is_relative_to("/etc"):
        stop = f"mv {rule} {rule}.off"
    return f"{what} again when udev sees {devices} appear anew ({rule.name}); `{stop}`"


def _rule(names: Iterable[str]) -> Path | None:
    """Return the one of some rules that is in force."""
    for name in names:
        for folder in RULES:
            path = Path(folder, name)
            if path.exists():  # also where it is masked by a link to /dev/null
                if path.stat().st_size:
                    return path
                break
    return None


def _by_daemons(kernel: Kernel, layers: Sequence[Layer]) -> Iterator[str]:
    maps = [each.title for each in layers if isinstance(each, Dm) and "multipath" in each.types]
    for process in all_processes(kernel):
        if process.name == MULTIPATHD and maps:
            stop = "systemctl stop multipathd.socket multipathd.service"
            yield f"{process.title} makes {', '.join(maps)} again; `{stop}`"
        elif process.name in DAEMONS:
            what, stop = DAEMONS[process.name]
            yield f"{process.title} {what}; `{stop}`"
