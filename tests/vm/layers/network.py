"""Disks that are reached over a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import NONE, Common

CONFIG = "/sys/kernel/config"
_AT_HOME = f"""
    ifconfig lo up
    grep -q configfs /proc/mounts || mount -t configfs configfs {CONFIG}"""


def _appears(name: str) -> str:
    """Shell text that waits until there is a disk."""
    return f'until [ "$(cat /sys/block/{name}/size 2>/dev/null)" ]; do usleep 10000; done'


def serve_nvme(device: str) -> str:
    """Shell text that has the kernel serve a device by NVMe over TCP."""
    target, port = f"{CONFIG}/nvmet/subsystems/disk", f"{CONFIG}/nvmet/ports/1"
    return f"""
        mkdir {target} {target}/namespaces/1 {port}
        echo 1 >{target}/attr_allow_any_host
        readlink -f {device} >{target}/namespaces/1/device_path
        echo 1 >{target}/namespaces/1/enable
        echo tcp >{port}/addr_trtype
        echo ipv4 >{port}/addr_adrfam
        echo 127.0.0.1 >{port}/addr_traddr
        echo 4420 >{port}/addr_trsvcid
        ln -s {target} {port}/subsystems/disk"""


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


@dataclass(frozen=True)
class NvmeDisk(Common):
    """The disk `disk` of the hardware, as /dev/nvme0n1: this machine serves it, and connects itself
    to it, by NVMe over TCP."""

    disk: str

    name: ClassVar[str] = "nvme0n1"
    title: ClassVar[str] = "NVMe over TCP nvme0n1"
    below: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ("nvmet-tcp", "nvme-tcp")
    clean: ClassVar[Mapping[str, str]] = NONE

    def build(self) -> str:
        return f"""{_AT_HOME}
            {serve_nvme(f"/dev/disk/{self.disk}")}
            echo "transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn=disk" >/dev/nvme-fabrics
            {_appears("nvme0n1")}"""

    def judge(self) -> str:
        return f"ln -sf disk/{self.disk} /dev/nvme0n1"


@dataclass(frozen=True)
class IscsiDisk(Common):
    """The disk `disk` of the hardware, as /dev/sda: this machine serves it, and connects itself to
    it, by iSCSI. No daemon stays: iscsistart is what an initramfs connects its root with. It is
    told what iscsid does by itself, to ask a silent server whether it is still there.
    """

    disk: str

    name: ClassVar[str] = "sda"
    title: ClassVar[str] = "iSCSI sda"
    below: ClassVar[tuple[str, ...]] = ()
    modules: ClassVar[tuple[str, ...]] = ("iscsi_target_mod", "target_core_iblock", "iscsi_tcp")
    programs: ClassVar[tuple[str, ...]] = ("sbin/iscsistart",)
    clean: ClassVar[Mapping[str, str]] = NONE

    def build(self) -> str:
        target = f"{CONFIG}/target/iscsi/iqn.2000-01.test:disk/tpgt_1"
        store = f"{CONFIG}/target/core/iblock_0/disk"
        return f"""{_AT_HOME}
            mkdir -p {store}
            echo "udev_path=$(readlink -f /dev/disk/{self.disk})" >{store}/control
            echo 1 >{store}/enable
            mkdir -p {target}/lun/lun_0 {target}/np/127.0.0.1:3260
            ln -s {store} {target}/lun/lun_0/disk
            for each in authentication demo_mode_write_protect; do
                echo 0 >{target}/attrib/$each
            done
            for each in generate_node_acls cache_dynamic_acls; do
                echo 1 >{target}/attrib/$each
            done
            echo 1 >{target}/enable
            ask=node.conn[0].timeo.noop_out
            iscsistart -i iqn.2000-01.test:host -t iqn.2000-01.test:disk -g 1 -a 127.0.0.1 \
                -P "${{ask}}_interval=5" -P "${{ask}}_timeout=5"
            {_appears("sda")}"""

    def judge(self) -> str:
        return f"ln -sf disk/{self.disk} /dev/sda"
