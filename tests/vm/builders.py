"""Initramfses other than the guest's own: those of image builders, run for real, with finalstage in
them, and a small one, for a machine with little memory."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.vm import debian, distro, modules, warehouse
from tests.vm.cache import PROJECT, digest, once
from tests.vm.guest import guest, pack
from tests.vm.layers import PASSPHRASE

HERE = Path(__file__).resolve().parent
TOOL = PROJECT / "dist" / "finalstage"
CPIO = PROJECT / "dist" / "finalstage-tree.cpio.zst"
OVERLAYS = PROJECT / "initramfs-overlay"
ROOT = "image-builders"
"""The root file system that builders run in: distro.py."""

DISK = "/dev/disk/by-id/virtio-a"
KEY = "/etc/keys/crypt.key"
# The passphrase, not the volume key: that is nowhere but in the header.
FILES = {
    "/etc/machine-id": f"{'2' * 32}\n",
    KEY: PASSPHRASE,
    "/etc/crypttab": f"crypt {DISK} {KEY} luks,initramfs\n",
    "/etc/cryptsetup-initramfs/conf-hook": 'KEYFILE_PATTERN="/etc/keys/*"\n',
}
MODULES = "virtio_pci virtio_blk ext4 crc32c-intel dm-mod dm-crypt xts aesni-intel algif_skcipher"


@dataclass(frozen=True)
class Builder:
    """`build` is shell text, run in the root with $version of the kernel, that makes /initrd.

    `command_line` is what the kernel is told, for its initramfs to find the root.
    """

    build: str
    command_line: str


BUILDERS = {
    "dracut": Builder(
        f"dracut --quiet --no-hostonly --kver $version --drivers '{MODULES}'"
        f" --include /etc/crypttab /etc/crypttab --include {KEY} {KEY}"
        " --compress 'zstd -1' /initrd",
        "root=/dev/vg/root rd.lvm.lv=vg/root",
    ),
    "initramfs-tools": Builder(
        f"""
        sed -i s/^MODULES=.*/MODULES=list/ /etc/initramfs-tools/initramfs.conf
        printf '%s\\n' {MODULES} >>/etc/initramfs-tools/modules
        mkinitramfs -c zstd -l 1 -o /initrd $version""",
        "root=/dev/mapper/vg-root",
    ),
}
# In a mount namespace of its own: nothing of it is seen outside.
_IN_ROOT = """
cd "$1"
mount -t proc proc proc
mount --bind /dev dev
exec chroot . sh -euc "$2"
"""


APPENDED = "cpio"
"""Not a builder: the guest's own initramfs, with the tree's segment behind it."""

SMALL = "small"
"""Nor this: one with nothing but what opens a root on LVM on LUKS, and without finalstage."""

_SMALL_MODULES = tuple(f"pvpanic-mmio {MODULES}".split())
_SMALL_PROGRAMS = ("bin/busybox", "sbin/cryptsetup", "sbin/dmsetup")
_SMALL_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin DM_DISABLE_UDEV=1
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/disk
for module in {" ".join(_SMALL_MODULES)}; do
    modprobe $module
done
. /lib/guest/disks
printf %s "{PASSPHRASE}" | cryptsetup open --key-file - /dev/disk/a crypt
dmsetup create vg-root --table "0 {440 * 2048} linear /dev/mapper/crypt 2048"
mount /dev/mapper/vg-root /mnt
for each in dev proc sys run; do mount -o move /$each /mnt/$each; done
exec switch_root /mnt /sbin/init
"""


def initramfs(name: str) -> Path:
    """The initramfs that a builder makes, with finalstage as it is in dist/ installed for it."""
    if name == SMALL:
        return _small()
    return _appended() if name == APPENDED else _built(name)


def _small() -> Path:
    parts, kernel = guest(), warehouse.kernel()
    key = digest(parts.version, _SMALL_INIT, _SMALL_MODULES, _SMALL_PROGRAMS, Path(__file__))

    def build(target: Path) -> None:
        root, source = target / "root", modules.folder(kernel)
        for name in ("bin", "dev", "etc", "mnt", "proc", "run", "sbin", "sys", "tmp"):
            (root / name).mkdir(parents=True)
        debian.pick(parts.oracle, _SMALL_PROGRAMS, root)
        (root / "lib/guest").mkdir()
        shutil.copy(HERE / "initramfs/lib/guest/disks", root / "lib/guest")
        built_in = (source / "modules.builtin").read_text()
        names = [name for name in _SMALL_MODULES if f"/{name}.ko" not in built_in]
        modules.copy(source, modules.with_dependencies(source, names), root)
        shutil.copy(source / "modules.builtin", root / "lib/modules" / source.name)
        (root / "init").write_text(_SMALL_INIT)
        (root / "init").chmod(0o755)
        subprocess.run((root / "bin/busybox", "depmod", "-b", root, source.name), check=True)
        pack(root, target / "plain")
        # By gzip, which takes next to no memory to unpack.
        (target / "initrd").write_bytes(gzip.compress((target / "plain").read_bytes(), mtime=0))
        (target / "plain").unlink()
        shutil.rmtree(root)

    return once(f"initramfs-{SMALL}-{key}", build) / "initrd"


def _appended() -> Path:
    own = guest().initrd

    def build(target: Path) -> None:
        (target / "initrd").write_bytes(own.read_bytes() + CPIO.read_bytes())

    return once(f"initramfs-cpio-{digest(guest().version, CPIO)}", build) / "initrd"


def _built(name: str) -> Path:
    builder, kernel = BUILDERS[name], warehouse.kernel()
    brought = (distro.archive(ROOT).parent.name, kernel.name, OVERLAYS / name, TOOL)
    key = digest(builder, FILES, brought, Path(__file__))

    def build(target: Path) -> None:
        root = target / "root"
        set_up(root, name)
        subprocess.run(("cp", "-al", kernel / "lib/modules", root / "lib"), check=True)
        (version,) = (path.name for path in (root / "lib/modules").iterdir())
        shutil.copy(kernel / f"boot/config-{version}", root / "boot")
        run(root, f"version={version}; depmod $version; {builder.build}")
        shutil.move(root / "initrd", target)
        shutil.rmtree(root)

    return once(f"initramfs-{name}-{key}", build) / "initrd"


def set_up(root: Path, name: str) -> None:
    """Make the new folder `root` a machine with the builders, and finalstage installed for one."""
    root.mkdir()
    subprocess.run(("tar", "-x", "-f", distro.archive(ROOT), "-C", root), check=True)
    for path, text in FILES.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
    subprocess.run((TOOL, "install", "--init", name, "--root", root), check=True)


def run(root: Path, script: str) -> str:
    """Run shell text with `root` as its root; return what it printed."""
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-euc", _IN_ROOT, "sh")
    ran = subprocess.run(
        (*command, root, script),
        check=True,
        env={"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ran.stdout
