"""What a machine is made of, and how QEMU is told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.vm.part import ALL

QEMU = "qemu-system-x86_64"
MIB = 1 << 20
TRAY_SIZE = 256 * MIB
# Without -erms and -fsrm, pages that once held code take seconds to clear under emulation.
PROCESSOR = "max,-erms,-fsrm"
COMMAND_LINE = "console=ttyS0,115200 norandmaps panic=-1 loglevel=5 sysrq_always_enabled"
# Reading any other clock leaves the emulated processor, mitigations make each indirect jump slow,
# and the check of the timer at boot fails at times on a busy machine.
COMMAND_LINE += " tsc=reliable mitigations=off no_timer_check"


# Of two that share one of this machine's, the one waits for the other, and is busy meanwhile: that
# takes half as much time again. Rows that are about it have more.
PROCESSORS = 2 if ALL else 1


@dataclass(frozen=True)
class Disk:
    """A disk of the guest: /dev/disk/NAME there. `size` is in MiB, `bus` virtio, nvme, scsi or nbd.

    One on nbd is served by QEMU, at the port `nbd=` on the guest's command line of the machine
    10.0.2.2, and the guest has to connect itself (layers.NetworkDisk).
    """

    name: str
    size: int = 384
    bus: str = "virtio"


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of, and the Debian suite whose kernel it boots.

    `devices` are further arguments for QEMU.
    """

    disks: tuple[Disk, ...]
    processors: int = PROCESSORS
    memory: int = 512
    processor: str = PROCESSOR
    command_line: str = ""
    devices: tuple[str, ...] = ()
    kernel: str = "bookworm"

    @property
    def can_be_saved(self) -> bool:
        """Whether QEMU can save such a machine: its NVMe controller is "non-migratable" (7.2), and
        a connection does not outlive it."""
        return not {"nvme", "nbd"} & {disk.bus for disk in self.disks}

    @property
    def served(self) -> tuple[str, ...]:
        """The names of the disks that QEMU serves over the network."""
        return tuple(disk.name for disk in self.disks if disk.bus == "nbd")


@cache
def qemu_version() -> str:
    """QEMU's own words about its version; a saved state belongs to one version."""
    return subprocess.run(
        (QEMU, "--version"), check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()[0]


def arguments(
    of: Hardware, images: Mapping[str, Path], tray: Path, read_only: bool
) -> Iterator[str]:
    """QEMU's arguments for the machine itself; its RAM is an object `ram` yet to be given.

    `images` gives the raw image of each disk by its name.
    """
    yield from ("-nodefaults", "-no-user-config", "-display", "none", "-device", "pvpanic")
    yield from ("-machine", "pc,memory-backend=ram", "-accel", "tcg,thread=multi")
    yield from ("-cpu", of.processor, "-smp", str(of.processors), "-m", str(of.memory))
    yield from ("-action", "reboot=shutdown,shutdown=pause,panic=pause")
    yield from _disk(Disk("tray"), tray, read_only=True)
    if any(disk.bus == "scsi" for disk in of.disks):
        yield from ("-device", "virtio-scsi-pci")
    if of.served:
        yield from ("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=")
    for disk in of.disks:
        yield from _disk(disk, images[disk.name], read_only=read_only)
    yield from of.devices


def _disk(disk: Disk, image: Path, *, read_only: bool) -> Iterator[str]:
    """Arguments for one disk, with a throttle group `throttle-NAME` by which it can be frozen.

    Flushes end in QEMU: only the guest goes down, never this machine.
    """
    of_file = f"driver=raw,file.driver=file,file.filename={image},file.locking=off"
    access = f"cache.no-flush=on,discard=unmap,read-only={'on' if read_only else 'off'}"
    yield from ("-blockdev", f"node-name=image-{disk.name},{of_file},{access}")
    group = f"throttle-{disk.name}"
    yield from ("-object", f"throttle-group,id={group}")
    throttle = f"driver=throttle,throttle-group={group},file=image-{disk.name}"
    yield from ("-blockdev", f"node-name={disk.name},{throttle},{access}")
    if disk.bus == "nbd":
        return
    device = {"virtio": "virtio-blk-pci", "nvme": "nvme", "scsi": "scsi-hd"}[disk.bus]
    yield from ("-device", f"{device},id=disk-{disk.name},drive={disk.name},serial={disk.name}")
