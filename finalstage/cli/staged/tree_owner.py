"""Whether somebody else has a tree of shutdown where ours goes: dracut, mkinitcpio.

Both have a unit that unpacks theirs into /run/initramfs when the machine goes down.
"""

from __future__ import annotations

from pathlib import Path

from finalstage.cli.staged.staging import SOURCE, USUAL, mount_at
from finalstage.cli.staged.stand_in import UNITS
from finalstage.handover.options import Options

UNIT_FOLDERS = (
    Path("/etc/systemd/system"),
    Path("/usr/lib/systemd/system"),
    Path("/lib/systemd/system"),
)
OTHERS = {
    "dracut": "dracut-shutdown.service",
    "mkinitcpio": "mkinitcpio-generate-shutdown-ramfs.service",
}


def other_tree(directory: Path, options: Options) -> str:
    """Return who has a tree of shutdown in a directory, if that is to be left to them, else an
    empty string."""
    if options.shutdown_tree != "other" or directory != USUAL:
        return ""
    if UNITS.is_dir():
        for name, unit in OTHERS.items():
            if any((folder / unit).is_file() for folder in UNIT_FOLDERS):
                return name
    entry = mount_at(directory)
    is_ours = entry is not None and entry.source == SOURCE
    return "whoever has put it there" if (directory / "shutdown").exists() and not is_ours else ""
