"""systemd itself, as PID 1 of a guest: an archive of what it takes, to be unpacked on a root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.vm import debian
from tests.vm.cache import digest, once
from tests.vm.guest import SUITE

_HERE = Path(__file__).resolve().parent
ARCHIVE = "systemd.tar"
PROGRAMS = ("lib/systemd/systemd", "bin/systemctl")
UNITS = (
    *("basic.target", "final.target", "local-fs.target", "poweroff.target", "reboot.target"),
    *("shutdown.target", "swap.target", "sysinit.target", "umount.target"),
    *("systemd-poweroff.service", "systemd-reboot.service"),
)
# It goes down by itself as soon as it is up.
DEFAULT = """
[Unit]
DefaultDependencies=no
Requires=basic.target finalstage.service down.service
After=basic.target finalstage.service
AllowIsolate=yes
"""
DOWN = """
[Unit]
After=default.target
DefaultDependencies=no

[Service]
Type=oneshot
ExecStart=/bin/systemctl --no-block poweroff
"""


def archive() -> Path:
    """The archive, built at the first call on this machine from Debian's packages."""
    key = digest(SUITE, PROGRAMS, UNITS, DEFAULT, DOWN, _HERE / "debian.py", _HERE / "systemd.py")
    return once(f"systemd-{key}", _build) / ARCHIVE


def _build(target: Path) -> None:
    packages, root = target / "packages", target / "root"
    source = debian.Archive(target / "apt", SUITE)
    source.unpack_with_dependencies(["systemd"], packages)
    units = [f"lib/systemd/system/{name}" for name in UNITS]
    debian.pick(packages, [*PROGRAMS, *units], root)
    for name, text in (("default.target", DEFAULT), ("down.service", DOWN)):
        (root / "lib/systemd/system" / name).write_text(text)
    subprocess.run(("tar", "-c", "-f", target / ARCHIVE, "-C", root, "."), check=True)
    for folder in (packages, root, target / "apt"):
        shutil.rmtree(folder)
