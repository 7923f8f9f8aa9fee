"""The guest: a Debian kernel, an initramfs that obeys a serial line, and roots to switch to.

There is one for each suite that a kernel comes from. All else is of one suite.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.vm import debian, modules
from tests.vm.cache import digest, once

_HERE = Path(__file__).resolve().parent
# The files that a guest is made by.
PARTS = ("guest.py", "modules.py", "debian.py", "initramfs", "oracle.sh")
SUITE = "bookworm"
NEWER_SUITE = "trixie"
KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    "busybox-static",
    "cryptsetup-bin",
    "dmsetup",
    "e2fsprogs",
    "kexec-tools",
    "lvm2",
    "mdadm",
    "musl",
    "systemd",
)
TOOLS = (
    "sbin/cryptsetup",
    "sbin/dmsetup",
    "sbin/dumpe2fs",
    "sbin/e2fsck",
    "sbin/kexec",
    "sbin/lvm",
    "sbin/mdadm",
    "sbin/mke2fs",
)
LVM_NAMES = ("lvchange", "lvcreate", "pvcreate", "pvs", "vgchange", "vgcreate", "lvs", "vgs")
# What every glibc system has, and `dist/finalstage` may need.
GLIBC = ("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libutil.so.1")
FOLDERS = ("bin", "dev", "etc", "lib", "mnt", "proc", "root", "run", "sbin", "sys", "tmp", "usr")


class Guest:
    """A built guest: where its parts lie. `version` names everything it was built from."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.kernel = folder / "vmlinuz"
        self.initrd = folder / "initrd"
        self.version = folder.name
        self.oracle = programs / "oracle"
        self.modules = frozenset((folder / "modules").read_text().split())
        self._programs = programs

    def root(self, kind: str) -> Path:
        """The folder with the files of a root file system: glibc, nolibc, musl or newer-glibc."""
        return self._programs / f"root-{kind}"


@cache
def guest(suite: str = SUITE) -> Guest:
    """The guest with the kernel of `suite`, built at the first call on this machine from Debian's
    packages."""
    key = digest(*(_HERE / name for name in PARTS))
    programs = once(f"programs-{key}", _build_programs)

    def build(target: Path) -> None:
        _build(target, programs / "initramfs", suite)

    return Guest(once(f"guest-{suite}-{key}", build), programs)


def _build(target: Path, initramfs: Path, suite: str) -> None:
    """A kernel, and `initramfs` with its modules."""
    work = target / "work"
    archive = debian.Archive(work / "apt", suite)
    archive.unpack([archive.meant_by(KERNEL)], work / "kernel")
    modules.decompress(work / "kernel")
    (kernel,) = (work / "kernel" / "boot").glob("vmlinuz-*")
    shutil.copy2(kernel, target / "vmlinuz")
    shutil.copytree(initramfs, work / "initramfs", symlinks=True)
    names = _modules(work / "kernel", work / "initramfs")
    (target / "modules").write_text("\n".join(names))
    pack(work / "initramfs", target / "initrd")
    shutil.rmtree(work)


def _build_programs(target: Path) -> None:
    work = target / "work"
    packages = work / "packages"
    debian.Archive(work / "apt", SUITE).unpack_with_dependencies(PACKAGES, packages)
    _skeleton(target / "initramfs", packages)
    _tools(target / "initramfs", packages)
    shutil.copytree(_HERE / "initramfs", target / "initramfs", dirs_exist_ok=True)

    _skeleton(target / "root-nolibc", packages)
    _skeleton(target / "root-glibc", packages)
    libraries = [f"lib/x86_64-linux-gnu/{name}" for name in GLIBC]
    debian.pick(packages, ["lib/systemd/systemd-shutdown", *libraries], target / "root-glibc")
    _skeleton(target / "root-musl", packages)
    for name in ("lib/x86_64-linux-musl/libc.so", "lib/ld-musl-x86_64.so.1"):
        debian.pick(packages, [name], target / "root-musl")
    newer = work / "newer"
    debian.Archive(work / "apt-newer", NEWER_SUITE).unpack_with_dependencies(["systemd"], newer)
    _skeleton(target / "root-newer-glibc", packages)
    debian.pick(newer, ["usr/lib/systemd/systemd-shutdown"], target / "root-newer-glibc")
    _oracle(target / "oracle", packages)
    shutil.rmtree(work)


def _skeleton(target: Path, packages: Path) -> None:
    """The folders of a root file system and a static busybox with a link for each applet."""
    for name in FOLDERS:
        (target / name).mkdir(parents=True)
    busybox = target / "bin" / "busybox"
    shutil.copy2(packages / "bin" / "busybox", busybox)
    for applet in _output(busybox, "--list").split():
        if applet != "busybox":
            (target / "bin" / applet).symlink_to("busybox")


def _tools(target: Path, packages: Path) -> None:
    """The field's own programs for building and closing layers."""
    debian.pick(packages, TOOLS, target)
    shutil.copy2(packages / "etc" / "mke2fs.conf", target / "etc")
    for name in LVM_NAMES:
        (target / "sbin" / name).symlink_to("lvm")
    # By this path the kernel itself asks for a module.
    (target / "sbin" / "modprobe").symlink_to("../bin/busybox")
    # A busybox shell prefers its own applets, mke2fs among them, to anything in PATH.
    (target / "sbin" / "mkfs.ext4").symlink_to("mke2fs")


def _oracle(target: Path, packages: Path) -> None:
    """A tree as finalstage's is one, but with a shell script that knows the stack by heart."""
    _skeleton(target, packages)
    _tools(target, packages)
    shutil.copytree(_HERE / "initramfs" / "etc", target / "etc", dirs_exist_ok=True)
    shutil.copy2(_HERE / "oracle.sh", target / "shutdown")


def _modules(kernel: Path, target: Path) -> list[str]:
    """Copy the modules that many stacks use, and index them. Return their names."""
    source = modules.folder(kernel)
    files = modules.with_dependencies(source, modules.every_guests(source))
    modules.copy(source, files, target)
    for index in source.glob("modules.*"):
        shutil.copy2(index, target / "lib" / "modules" / source.name)
    _output(target / "bin" / "busybox", "depmod", "-b", target, source.name)
    return sorted(files)


def pack(folder: Path, archive: Path) -> None:
    """An initramfs in the newc format; barely compressed, since the guest must unpack it."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))
    command = ("cpio", "--quiet", "-o", "-H", "newc", "--owner", "0:0", "--reproducible")
    made = subprocess.run(
        command, cwd=folder, input="\n".join(names).encode(), check=True, stdout=subprocess.PIPE
    )
    archive.write_bytes(made.stdout)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
