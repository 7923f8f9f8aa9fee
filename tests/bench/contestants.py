"""Who goes down: finalstage on both paths, and its peers."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.bench.stacks import Trial
from tests.vm import debian
from tests.vm.cache import PROJECT, digest, once
from tests.vm.guest import NEWER_SUITE, SUITE
from tests.vm.rows import DIRECT, RETURN

_HERE = Path(__file__).resolve().parent
DRACUT_PACKAGES = (
    *("bash", "coreutils", "cpio", "cryptsetup-bin", "dash", "dmsetup", "dracut-core", "e2fsprogs"),
    *("findutils", "grep", "gzip", "hostname", "kmod", "kpartx", "libc-bin", "lvm2", "mawk"),
    *("mdadm", "mount", "procps", "sed", "systemd", "systemd-sysv", "tar"),
    *("thin-provisioning-tools", "udev", "util-linux"),
)
DRACUT_MODULES = "base shutdown dm lvm crypt mdraid udev-rules fs-lib"
DRACUT_LINE = (
    "ldconfig; dracut --force --no-compress --no-hostonly --no-kernel"
    f" --modules '{DRACUT_MODULES}' /tmp/image >/tmp/log 2>&1"
)


@dataclass(frozen=True)
class Contestant:
    """Who goes down: how PID 1 hands over, and the tree that is staged for that, if any.

    `root` is the kind of root file system below it, and with it the version of systemd. `before`
    is shell text that is run when the tree has been staged. `only` names the trials it takes part
    in, if not in all.
    """

    name: str
    path: str
    tree: str = ""
    root: str = "glibc"
    before: str = ""
    only: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether this is finalstage, which leaves records."""
        return self.tree == "finalstage"

    def takes_part(self, trial: Trial) -> bool:
        """Whether it is measured in a trial."""
        return trial.name in self.only if self.only else True

    def staged(self, trial: Trial) -> Path | None:
        """The folder of its tree."""
        if self.tree == "oracle":
            return _oracle(trial)
        if self.tree == "dracut":
            return dracut(NEWER_SUITE if self.root == NEWER else SUITE)
        return PROJECT / "dist/tree" if self.tree else None


NEWER = "newer-glibc"
"""Debian 13's systemd 257 is in that root, Debian 12's 252 in the other."""

BOTH_SYSTEMDS = ("main", "100 mounts", "400 mounts")
FINALSTAGE_DIRECT = Contestant("finalstage, direct", DIRECT, "finalstage")
FINALSTAGE_RETURN = Contestant("finalstage, return", RETURN, "finalstage")
SYSTEMD = Contestant("systemd 252", RETURN)
DRACUT = Contestant("systemd 252 and dracut", RETURN, "dracut")
NEWER_SYSTEMD = Contestant("systemd 257", RETURN, root=NEWER, only=BOTH_SYSTEMDS)
NEWER_DRACUT = Contestant(
    "systemd 257 and dracut", RETURN, "dracut", root=NEWER, only=BOTH_SYSTEMDS
)
ORACLE = Contestant("oracle", DIRECT, "oracle")
CONTESTANTS = (
    FINALSTAGE_DIRECT,
    FINALSTAGE_RETURN,
    SYSTEMD,
    DRACUT,
    NEWER_SYSTEMD,
    NEWER_DRACUT,
    ORACLE,
)


def _oracle(trial: Trial) -> Path:
    """A tree with the oracle in it, and what it is to do."""
    source = _HERE / "oracle.c"
    flags = ("-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-s")
    headers = ("-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu")

    def build(folder: Path) -> None:
        command = ("musl-gcc", *flags, *headers, "-o", folder / "shutdown", source)
        subprocess.run(command, check=True)
        (folder / "plan").write_text("".join(f"{line}\n" for line in trial.plan))

    return once(f"oracle-{digest(source, flags, trial.plan)}", build)


@cache
def dracut(suite: str) -> Path:
    """The tree that dracut unpacks at shutdown: what dracut itself makes, of Debian's packages."""

    def build(folder: Path) -> None:
        work = folder / "work"
        root = work / "root"
        archive = debian.Archive(work / "apt", suite)
        archive.unpack_with_dependencies(DRACUT_PACKAGES, root)
        _merge_usr(root)
        script = f"mount --bind /dev {root}/dev; mount -t proc proc {root}/proc;"
        script += f' mount -t sysfs sysfs {root}/sys; chroot {root} /bin/bash -c "$1"'
        subprocess.run(("unshare", "-m", "bash", "-ec", script, "-", DRACUT_LINE), check=True)
        with (root / "tmp/image").open("rb") as image:
            unpack = ("cpio", "-i", "-d", "--quiet", "--no-absolute-filenames")
            subprocess.run(unpack, stdin=image, cwd=folder, check=True)
        shutil.rmtree(work)

    return once(f"dracut-{digest(DRACUT_PACKAGES, DRACUT_LINE, suite)}", build)


def _merge_usr(root: Path) -> None:
    """Have /bin and the like be links into /usr, as on an installed system."""
    for name in ("bin", "sbin", "lib", "lib64"):
        place, merged = root / name, root / "usr" / name
        merged.mkdir(exist_ok=True, parents=True)
        if place.is_dir() and not place.is_symlink():
            subprocess.run(("cp", "-a", f"{place}/.", merged), check=True)
            shutil.rmtree(place)
        if not place.is_symlink():
            place.symlink_to(f"usr/{name}")
    for link, program in (("sh", "dash"), ("awk", "mawk")):
        (root / "usr/bin" / link).unlink(missing_ok=True)
        os.symlink(program, root / "usr/bin" / link)
