"""Firmware that is asked to overwrite memory before anything else runs on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from finalstage import keep
from finalstage.cli.report.shutdown import read
from finalstage.efi import VARIABLES
from tests.vm import firmware
from tests.vm.conftest import Happen
from tests.vm.hardware import MIB, Disk, Hardware
from tests.vm.layers import NONE, Common, Ext4, Luks
from tests.vm.living import Living, live
from tests.vm.rows import DIRECT, FINALSTAGE, ORACLE, Row
from tests.vm.stacks import Stack
from tests.vm.states import INITRAMFS

ON_A_PARTITION = f"""
tail -c +5 {VARIABLES}/{keep.VARIABLE} >/dev/disk/r
umount {VARIABLES}
printf '[report]\\nplace = "/dev/disk/r"\\n' >/etc/finalstage.toml"""
RAMOOPS = """
for each in /sys/bus/pci/devices/*; do
    [ "$(cat $each/device)" != 0x1110 ] || device=$each
done
echo 1 >$device/enable
address=$(sed -n '3s/ .*//p' $device/resource)
rmmod ramoops 2>/dev/null || :
modprobe ramoops mem_address=$address mem_size=0x100000 record_size=0x10000 max_reason=4
grep ramoops /sys/module/pstore/parameters/backend"""
VARIABLE = f"/sys/firmware/efi/efivars/{firmware.MOR}-{firmware.GUID}"
# The kernel's EFI stub asks at each boot; who goes down in an orderly way takes that back.
TAKE_BACK = f"""
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
/run/secret mutable {VARIABLE}
printf '\\007\\000\\000\\000\\000' >/run/value
cat /run/value >{VARIABLE}
umount /sys/firmware/efi/efivars"""


@dataclass(frozen=True)
class Variables(Common):
    """Firmware whose variables the kernel can show."""

    name: ClassVar[str] = "efivarfs"
    title: ClassVar[str] = "UEFI variables"
    below: ClassVar[tuple[str, ...]] = ()
    # Not efivarfs: the machine that judges has another firmware.
    modules: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = NONE

    def build(self) -> str:
        return "modprobe efivarfs"

    def judge(self) -> str:
        return "true"


@dataclass(frozen=True)
class Pstore(Variables):
    """The driver by which pstore writes to memory, not yet loaded."""

    name: ClassVar[str] = "ramoops"
    title: ClassVar[str] = "pstore in memory"
    modules: ClassVar[tuple[str, ...]] = ("reed_solomon", "ramoops")

    def build(self) -> str:
        return "true"


@pytest.mark.parametrize(
    ("to", "after", "value"),
    [(FINALSTAGE, b"kept the report in an EFI", b"\1"), (ORACLE, b"removed crypt", b"\0")],
    ids=["finalstage", "control"],
)
def test_the_firmware_is_asked(happen: Happen, to: str, after: bytes, value: bytes) -> None:
    with firmware.uefi() as devices:
        # A machine with an NVMe disk is not saved by the harness, nor could this one be.
        hardware = Hardware((Disk("a", bus="nvme"),), processors=1, devices=devices)
        layers = (Variables(), Luks("crypt", "disk/a"), Ext4("mapper/crypt", "/"))
        name = f"{'control: ' if to == ORACLE else ''}memory overwrite request"
        flash = Row(name, Stack(name, hardware, layers)).folder / "flash"
        row = Row(
            name,
            Stack(name, hardware, layers),
            before=(TAKE_BACK,),
            tools=("secret",),
            faults=(firmware.save_flash(flash, after),),
            to=to,
        )
        outcome = happen(row)
        assert not outcome.problems, f"see {row.folder}"
        assert firmware.variable(flash, firmware.MOR) == value
    if to == FINALSTAGE:
        memory = flash.with_name("memory")
        with firmware.uefi(flash) as devices:
            look_at_it_after_the_next_start((*devices, *shared(memory)))
        # What pstore has is the kernel's own form around the end of its log.
        found = read(memory.read_bytes())
        assert (found.verb, found.closed, found.remaining) == ("halt", 1, 0)


def shared(memory: Path) -> tuple[str, ...]:
    """QEMU's arguments for a piece of memory that outlives a machine, in a file."""
    memory.write_bytes(bytes(MIB))
    return (
        *("-object", f"memory-backend-file,id=shared,size=1M,share=on,mem-path={memory}"),
        *("-device", "ivshmem-plain,memdev=shared"),
    )


def look_at_it_after_the_next_start(devices: tuple[str, ...]) -> None:
    """Boot the firmware that such a machine has left, have its report shown, and leave another one
    in memory."""

    async def act(living: Living) -> None:
        await living.run(f"mount -t efivarfs efivarfs {VARIABLES}")
        shown = await living.call("report")
        assert shown.status == 0
        assert "from: EFI variable" in shown.text
        assert "closed 2, remaining 0, keys left 0" in shown.text
        assert "crypt crypt" in shown.text
        assert json.loads((await living.call("report", "--json")).text)["closed"] == 2
        await living.run(ON_A_PARTITION)
        shown = await living.call("report")
        assert shown.status == 0
        assert "from: /dev/disk/r" in shown.text
        assert f"EFI variables: not mounted: mount -t efivarfs efivarfs {VARIABLES}" in shown.text

        await living.run(RAMOOPS)
        assert (await living.call("stage")).status == 0
        await living.machine.become(f"{DIRECT.format(verb='halt')} --report.place=pstore")
        assert (await living.machine.end(60)).kind == "halt"
        said = living.machine.console.decode(errors="replace")
        assert "left the report to the kernel, for pstore by ramoops" in said

    disks = (Disk("a", 64, bus="nvme"), Disk("r", 8))
    hardware = Hardware(disks, processors=1, devices=devices)
    hardware = replace(hardware, command_line="pstore.compress=none")
    layers = (Variables(), Pstore(), Ext4("disk/a", "/"))
    live(Stack("after it", hardware, layers, root=INITRAMFS), act)
