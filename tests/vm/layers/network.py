"""Disks that are reached over a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import NONE, Common


@dataclass(frozen=True)
class NetworkDisk(Common):
    """The disk `disk` of the hardware, connected over the network as /dev/nbd0.

    Its process is marked as one that storage needs to the end, as nbd-client -systemd-mark does.
    """

    disk: str

    name: ClassVar[str] = "nbd0"
    title: ClassVar[str] = "NBD nbd0"
    below: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ("virtio_net", "nbd")
    clean: ClassVar[Mapping[str, str]] = NONE

    def build(self) -> str:
        return f"""
            ifconfig eth0 10.0.2.15 up
            port=$(sed 's/.*nbd=\\([0-9]*\\).*/\\1/' /proc/cmdline)
            chmod 755 /run/tray/trouble
            (exec -a @nbd /run/tray/trouble nbd /dev/nbd0 10.0.2.2 $port {self.disk})
            until [ "$(cat /sys/block/nbd0/size)" -gt 0 ]; do usleep 10000; done"""

    def judge(self) -> str:
        return f"ln -sf disk/{self.disk} /dev/nbd0"
