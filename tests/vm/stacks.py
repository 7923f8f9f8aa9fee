"""The stacks that machines go down with, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.vm.content import File
from tests.vm.distro import RECIPES
from tests.vm.hardware import MIB, PROCESSOR, Disk, Hardware
from tests.vm.layers import Bind, Crypt, Ext4, Integrity, Layer, Luks, Lvm, Modules, Raid, Swap

ONE = (Disk("a"),)
TWO = (Disk("a"), Disk("b"))


@dataclass(frozen=True)
class Stack:
    """A machine's storage: layers from the bottom up, one of them mounted at `/`.

    `files` are written and synced before the state is saved. `root` is the kind of root file
    system: glibc, newer-glibc, musl or nolibc, or one with an init of its own (distro.py).
    """

    name: str
    hardware: Hardware
    layers: tuple[Layer, ...]
    root: str = "glibc"
    files: tuple[File, ...] = (
        File("/data/old", 300_000),
        File("/data/secret", MIB, secret=True),
    )
    # Shell text that has been run in the machine before it was saved, with the files of `brought`
    # in /run/tray.
    prepared: str = ""
    brought: tuple[Path, ...] = ()
    # The image builder by whose initramfs it has booted (builders.py), if not by the guest's own.
    initramfs: str = ""

    @property
    def keys(self) -> list[bytes]:
        """The keys of all its encrypted layers."""
        keyed = (layer for layer in self.layers if isinstance(layer, Luks | Crypt))
        return [key for layer in keyed for key in layer.keys]

    @property
    def mac_keys(self) -> list[bytes]:
        """The keys with which its layers make sums."""
        keyed = (layer for layer in self.layers if isinstance(layer, Integrity | Crypt))
        return [key for layer in keyed for key in layer.mac_keys]

    @property
    def unwritten_keys(self) -> list[bytes]:
        """Those of its keys which no guest gets as text."""
        return [key for layer in self.layers if isinstance(layer, Luks) for key in layer.keys]


MAIN = Stack(
    "main",
    Hardware(TWO),
    (
        Raid("md0", ("disk/a", "disk/b")),
        Luks("crypt", "md0"),
        Lvm("vg", ("mapper/crypt",), (("root", "-L 280M"),)),
        Ext4("vg/root", "/"),
    ),
)
MAIN_BUSY = replace(
    MAIN,
    name="main, swap and nested mounts",
    layers=(
        *MAIN.layers[:2],
        Lvm("vg", ("mapper/crypt",), (("root", "-L 200M"), ("swap", "-L 32M"), ("srv", "-L 64M"))),
        Ext4("vg/root", "/"),
        Swap("vg/swap"),
        Ext4("vg/srv", "/srv"),
        Bind("/data", "/srv/data"),
    ),
)
LUKS = Stack("LUKS", Hardware(ONE), (Luks("crypt", "disk/a"), Ext4("mapper/crypt", "/")))
IN_TABLE = Stack(
    "LUKS, key in the table",
    Hardware(ONE),
    (Luks("crypt", "disk/a", options="--disable-keyring"), Ext4("mapper/crypt", "/")),
)
LVM = Stack(
    "LVM", Hardware(ONE), (Lvm("vg", ("disk/a",), (("root", "-L 280M"),)), Ext4("vg/root", "/"))
)
STRIPED = Stack(
    "striped LVM",
    Hardware(TWO),
    (Lvm("vg", ("disk/a", "disk/b"), (("root", "-L 280M -i 2"),)), Ext4("vg/root", "/")),
)
BUSES = Stack(
    "NVMe and SCSI",
    Hardware((Disk("a", bus="nvme"), Disk("b", bus="scsi"))),
    (Raid("md0", ("disk/a", "disk/b")), Luks("crypt", "md0"), Ext4("mapper/crypt", "/")),
)
MD = Stack("md", Hardware(TWO), (Raid("md0", ("disk/a", "disk/b")), Ext4("md0", "/")))
PLAIN = Stack("plain", Hardware(ONE), (Ext4("disk/a", "/"),))
SUMS = Stack(
    "keyed dm-integrity, authenticated dm-crypt",
    Hardware((Disk("a"), Disk("b", 128), Disk("c", 128))),
    (
        Luks("croot", "disk/a"),
        Ext4("mapper/croot", "/"),
        Integrity("sums", "disk/b", 96),
        Ext4("mapper/sums", "/sums"),
        Integrity("tags", "disk/c", 96, keyed=False),
        Crypt("crypt", "mapper/tags", 96, 1, authenticated=True),
        Ext4("mapper/crypt", "/tags"),
    ),
    files=(
        File("/data/old", 300_000),
        File("/sums/old", 300_000),
        File("/tags/old", MIB, secret=True),
    ),
)


def rooted(stack: Stack, kind: str) -> Stack:
    """The same stack below another kind of root file system."""
    return replace(stack, name=f"{stack.name}, {kind}", root=kind)


def on(stack: Stack, **hardware: Any) -> Stack:
    """The same stack on a machine that differs in the given fields of its hardware."""
    changes = ", ".join(f"{name} {value}" for name, value in hardware.items())
    return replace(
        stack, name=f"{stack.name}, {changes}", hardware=replace(stack.hardware, **hardware)
    )


WITHOUT_AES = on(MAIN, processor=f"{PROCESSOR},-aes")


def with_init(kind: str) -> Stack:
    """A machine that has booted such a root (distro.py), with a kernel of the same suite: ext4 on
    LVM on LUKS."""
    recipe = RECIPES[kind]
    return Stack(
        kind,
        Hardware((Disk("a", 512),), kernel=recipe.suite),
        (
            Modules(recipe.modules),
            Luks("crypt", "disk/a"),
            Lvm("vg", ("mapper/crypt",), (("root", "-L 440M"),)),
            Ext4("vg/root", "/"),
        ),
        root=kind,
    )


def with_little_memory() -> Stack:
    """A machine with one processor and 64 MB of memory for all but the kernel, that has booted
    busybox's init by a small initramfs.

    Debian's kernel does not boot in 64 MB at all: to unpack itself it takes 52 of them, 16 from the
    beginning on (init_size and pref_address in its header). Of 98 it leaves 62: MemTotal.
    """
    of = with_init("busybox")
    hardware = replace(of.hardware, memory=98, processors=1)
    return replace(of, name=f"{of.name}, little memory", hardware=hardware, initramfs="small")


def booted_by(builder: str, command_line: str) -> Stack:
    """That machine with systemd, booted once more, by the initramfs of an image builder.

    `command_line` is what that has to be told.
    """
    of = with_init("systemd")
    return replace(
        of,
        name=f"{of.name}, booted by {builder}",
        hardware=replace(of.hardware, command_line=command_line),
        initramfs=builder,
    )
