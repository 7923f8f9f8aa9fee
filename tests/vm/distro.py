"""Whole root file systems with an init of their own, made of Debian's packages by mmdebstrap."""

from __future__ import annotations

import inspect
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from tests.vm import debian
from tests.vm.cache import digest, once

_HERE = Path(__file__).resolve().parent
_ROOTS = _HERE / "roots"
_ARCHIVE = "root.tar"
# What no guest reads. The paths are excluded while packages are unpacked, the others then removed:
# maintainer scripts may use them.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
REMOVED = (
    *("usr/lib/udev/hwdb.bin", "usr/lib/udev/hwdb.d", "usr/lib/x86_64-linux-gnu/gconv"),
    *("usr/lib/x86_64-linux-gnu/libperl.so*", "usr/lib/x86_64-linux-gnu/perl"),
    *("usr/share/i18n", "usr/share/perl", "var/cache/apt", "var/lib/apt"),
)
# What every one of them has besides its init.
COMMON = ("dmsetup", "e2fsprogs", "lvm2", "mount", "procps", "udev")


@dataclass(frozen=True)
class Recipe:
    """What a root file system is made of.

    `packages` are installed, with their maintainer scripts run. Then the files in roots/NAME are
    put over it, for each of `files`, and `commands`, shell text, are run in it. One of the files
    has the init run /lib/guest/listen, as a service of its own, once all else is up. There are no
    modules in it: those of the kernel that are of use to the init are loaded beforehand.
    """

    packages: tuple[str, ...]
    files: tuple[str, ...]
    commands: str = ""
    suite: str = "bookworm"
    init: str = "/sbin/init"
    modules: tuple[str, ...] = ()


# Units that nothing in these machines needs, or that work at times of their own.
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("e2scrub_reap.service", "fstrim.timer", "systemd-tmpfiles-clean.timer"),
    *("console-getty.service", "getty@.service", "serial-getty@.service"),
    *("ldconfig.service", "systemd-firstboot.service", "systemd-hwdb-update.service"),
    *("systemd-update-done.service", "systemd-timesyncd.service"),
)
_SYSTEMD = Recipe(
    # dracut's own shutdown service, which does nothing where dracut has not booted the machine.
    (*COMMON, "dbus", "dracut-core", "systemd", "systemd-sysv"),
    ("common", "systemd"),
    f"systemctl mask {' '.join(_MASKED)}\nsystemctl enable listen.service",
    modules=("autofs4", "binfmt_misc"),
)

_SYSV = (*COMMON, "initscripts")

RECIPES = {
    # Not booted: image builders run in it (builders.py).
    "image-builders": Recipe(
        (
            *(*COMMON, "busybox-static", "cryptsetup-initramfs", "dracut-core", "elfutils"),
            *("initramfs-tools", "kmod", "systemd", "systemd-sysv", "zstd"),
        ),
        ("common",),
    ),
    "systemd": _SYSTEMD,
    "systemd-257": replace(_SYSTEMD, suite="trixie"),
    "sysvinit": Recipe(
        (*_SYSV, "sysvinit-core", "sysv-rc"),
        ("common",),
        """
        sed -i '/getty/d' /etc/inittab
        echo 'li:2345:respawn:/bin/sh /lib/guest/listen' >>/etc/inittab""",
    ),
    "busybox": Recipe(
        ("busybox-static",),
        ("common", "busybox"),
        "/bin/busybox --install -s",
    ),
    "openrc": Recipe(
        (*_SYSV, "openrc"),
        ("common", "openrc"),
        "rc-update add listen default",
        init="/sbin/openrc-init",
    ),
    # As Debian has it: OpenRC in the place of sysv-rc.
    "openrc-sysvinit": Recipe(
        (*_SYSV, "openrc", "sysvinit-core"),
        ("common", "openrc"),
        """
        sed -i '/getty/d' /etc/inittab
        rc-update add listen default""",
    ),
    # s6-linux-init has no package: scripts do what its programs do, around the real s6-svscan.
    "s6-linux-init": Recipe(
        ("busybox-static", "execline", "s6"),
        ("common", "s6-linux-init"),
        """
        /bin/busybox --install -s
        ln -sf /etc/s6-linux-init/current/bin/init /sbin/init
        for each in halt poweroff reboot; do
            rm /sbin/$each
            printf '#!/bin/sh\\nexec s6-linux-init-hpr -%.1s\\n' $each >/sbin/$each
            chmod 755 /sbin/$each
        done""",
    ),
    "runit": Recipe(
        (*_SYSV, "runit", "runit-init"),
        ("common", "runit"),
        "rm -f /etc/service/getty-*; ln -s /etc/sv/listen /etc/service/listen",
    ),
    "finit": Recipe(
        (*COMMON, "finit", "finit-sysv"),
        ("common", "finit"),
        "cd /etc/finit.d; rm acpid.conf getty.conf rsyslogd.conf sshd.conf",
    ),
}


def is_distro(kind: str) -> bool:
    """Whether that is the name of one of these, and not of another kind of root."""
    return kind in RECIPES


def archive(kind: str) -> Path:
    """The root file system as a tar archive, built at the first call on this machine.

    The name of its folder tells apart all that it was built from.
    """
    recipe = RECIPES[kind]
    folders = [_ROOTS / name for name in recipe.files]
    key = digest(recipe, EXCLUDED, REMOVED, *folders, inspect.getsource(_build))
    return once(f"distro-{kind}-{key}", lambda folder: _build(recipe, folder)) / _ARCHIVE


def _build(recipe: Recipe, target: Path) -> None:
    """By `root` mode or, for who is not root, in a user namespace: mmdebstrap chooses."""
    sources = target / "sources.list"
    sources.write_text("".join(debian.sources(recipe.suite)))
    options = [f"--dpkgopt=path-exclude={path}" for path in EXCLUDED]
    hooks = [f'cp -a "{_ROOTS / name}/." "$1"' for name in recipe.files]
    hooks.append(f'chroot "$1" sh -ec {shlex.quote(recipe.commands)}')
    hooks.append(f'cd "$1" && rm -rf {" ".join(REMOVED)}')
    command: tuple[str | Path, ...] = (
        *("mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(recipe.packages)}"),
        *("--aptopt=Acquire::Languages none", "--aptopt=Acquire::Retries 3"),
        *("--dpkgopt=force-unsafe-io", *options),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(recipe.suite, target / _ARCHIVE, sources),
    )
    subprocess.run(command, check=True)
