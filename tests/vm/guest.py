"""The guest: a Debian kernel, an initramfs that obeys a serial line, and roots to switch to."""

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

    def __init__(self, folder: Path) -> None:
        self.kernel = folder / "vmlinuz"
        self.initrd = folder / "initrd"
        self.version = folder.name
        self.oracle = folder / "oracle"
        self.modules = frozenset((folder / "modules").read_text().split())
        self._folder = folder

    def root(self, kind: str) -> Path:
        """The folder with the files of a root file system: glibc, nolibc, musl or newer-glibc."""
        return self._folder / f"root-{kind}"


@cache
def guest() -> Guest:
    """The guest, built at the first call on this machine from Debian's packages."""
    recipe = [_HERE / name for name in PARTS]
    return Guest(once(f"guest-{digest(*recipe)}", _build))


def _build(target: Path) -> None:
    work = target / "work"
    packages = work / "packages"
    archive = debian.Archive(work / "apt", SUITE)
    archive.unpack([archive.meant_by(KERNEL)], work / "kernel")
    archive.unpack_with_dependencies(PACKAGES, packages)

    (kernel,) = (work / "kernel" / "boot").glob("vmlinuz-*")
    shutil.copy2(kernel, target / "vmlinuz")
    initramfs = work / "initramfs"
    _skeleton(initramfs, packages)
    _tools(initramfs, packages)
    shutil.copytree(_HERE / "initramfs", initramfs, dirs_exist_ok=True)
    names = _modules(work / "kernel", initramfs)
    (target / "modules").write_text("\n".join(names))
    _pack(initramfs, target / "initrd")

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
    (source,) = (kernel / "lib" / "modules").iterdir()
    files = modules.with_dependencies(source, modules.every_guests(source))
    modules.copy(source, files, target)
    for index in source.glob("modules.*"):
        shutil.copy2(index, target / "lib" / "modules" / source.name)
    _output(target / "bin" / "busybox", "depmod", "-b", target, source.name)
    return sorted(files)


def _pack(folder: Path, archive: Path) -> None:
    """An initramfs in the newc format; barely compressed, since the guest must unpack it."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))
    command = ("cpio", "--quiet", "-o", "-H", "newc", "--owner", "0:0", "--reproducible")
    made = subprocess.run(
        command, cwd=folder, input="\n".join(names).encode(), check=True, stdout=subprocess.PIPE
    )
    archive.write_bytes(made.stdout)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
