"""Kernel to stack: what is recognised, what stands on what, and what cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

import pytest

from finalstage.kernel import Target
from finalstage.layers import dm, swap
from finalstage.scan import scan
from finalstage.stack import Layer, Stack
from tests.sim.kernel import SimKernel
from tests.sim.kinds.bcache import Waiting
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.md import Md
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.partition import Partition
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine
from tests.sim.stacks import main_stack

OWN = frozenset(("/", "/proc", "/sys", "/dev"))


def look(machine: Machine, faults: Mapping[Any, object] | None = None) -> Stack:
    """Scan a simulated machine as the stage does."""
    return scan(SimKernel(machine, faults), OWN, "/oldroot")


def titled(stack: Stack, title: str) -> Layer:
    """Return the layer with a title."""
    (found,) = [layer for layer in stack.layers if layer.title == title]
    return found


def below(stack: Stack, title: str) -> set[str]:
    """Return the titles of what a layer stands on."""
    by_id = stack.by_id
    return {by_id[id].title for id in titled(stack, title).below if id in by_id}


def test_main_stack() -> None:
    stack = look(main_stack())
    assert below(stack, "ext4 /") == {"linear vg-root"}
    assert below(stack, "linear vg-root") == {"crypt cryptroot"}
    assert below(stack, "crypt cryptroot") == {"raid1 md0"}
    assert below(stack, "raid1 md0") == {"disk vda", "disk vdb"}
    assert below(stack, "devtmpfs /dev") == {"ext4 /"}
    assert stack.problems == ()
    assert [layer.title for layer in stack.layers if not layer.closes] == ["disk vda", "disk vdb"]


def test_partition_stands_on_its_disk() -> None:
    machine = main_stack()
    machine.devices["254:1"] = Partition("vda1", "254:1", ("254:0",))
    machine.devices["9:0"].below = ("254:1", "254:16")
    assert below(look(machine), "partition vda1") == {"disk vda"}
    assert below(look(machine), "raid1 md0") == {"partition vda1", "disk vdb"}


def test_swap_stands_on_its_device_and_on_the_mount_of_its_node() -> None:
    machine = main_stack()
    machine.swaps = [Swap("/oldroot/dev/dm-1", "253:1")]
    assert below(look(machine), "swap /dev/dm-1") == {"linear vg-root", "devtmpfs /dev"}


def test_a_mount_that_covers_others_goes_first() -> None:
    machine = main_stack()
    machine.mounts += [
        Mount(20, 10, "/oldroot/a/b", "0:40", "xfs"),
        Mount(21, 10, "/oldroot/ab", "0:41", "xfs"),
        Mount(22, 10, "/oldroot/a", "0:42", "xfs"),
    ]
    assert below(look(machine), "xfs /a") == {"ext4 /", "xfs /a/b"}


def test_dm_without_a_table_and_with_several_targets() -> None:
    machine = main_stack()
    machine.devices["253:5"] = Dm("dm-5", "253:5", title="empty")
    machine.devices["253:6"] = Dm(
        "dm-6", "253:6", title="mixed",
        targets=(Target(0, 8, "linear"), Target(8, 8, "crypt"), Target(16, 8, "linear")),
    )  # fmt: skip
    stack = look(machine)
    assert titled(stack, "dm empty").closes
    assert titled(stack, "crypt+linear mixed").closes


def test_empty_drives_are_no_layers() -> None:
    machine = main_stack()
    machine.devices["7:0"] = Disk("loop0", "7:0", sectors=0)
    assert "disk loop0" not in [layer.title for layer in look(machine).layers]


EIO = OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("path", ["", "/dev", "/size", "/slaves"])
def test_a_device_of_which_something_cannot_be_read_keeps_its_place(path: str) -> None:
    """It is named, all others are there, and only what was asked in vain is missing."""
    fault = ("read" if path in ("/dev", "/size") else "listdir", f"/sys/class/block/dm-0{path}")
    machine = main_stack()
    del machine.settings["/proc/devices"]  # so nothing is known by its name
    stack = look(machine, {fault: EIO})
    assert stack.problems[0] == "cannot read block device dm-0: I/O error"
    (device,) = [
        layer for layer in stack.layers if "cryptroot" in layer.name or layer.name == "dm-0"
    ]
    assert below(stack, "linear vg-root") == {device.title}
    assert below(stack, device.title) == (set() if path == "/slaves" else {"raid1 md0"})
    assert titled(stack, "ext4 /")
    assert titled(stack, "raid1 md0")


def test_what_the_name_of_a_mapped_device_tells_is_not_read() -> None:
    machine = main_stack()
    faults = {("read", f"/sys/class/block/dm-0{path}"): EIO for path in ("/dev", "/size")}
    assert look(machine, faults) == look(machine)
    assert look(machine, {("listdir", "/sys/class/block/dm-0/slaves"): EIO}).problems


def test_a_mapped_device_below_bcache_is_seen() -> None:
    machine = main_stack()
    machine.devices["253:9"] = Dm("dm-9", "253:9", targets=(Target(0, 8, "linear"),))
    machine.others.append(Waiting("253:9"))
    assert below(look(machine), "bcache backing dm-9") == {"linear dm-9"}


def test_a_device_that_goes_meanwhile_is_not_listed() -> None:
    machine = main_stack()
    machine.devices["254:32"] = Disk("vdc", "254:32")
    faults = {(call, f"/sys/class/block/vdc{path}"): EIO for call in ("listdir", "read")
              for path in ("", "/dev", "/size")}  # fmt: skip
    stack = look(machine, faults)
    assert stack.problems == ("cannot read block device vdc: I/O error",)
    assert [layer.title for layer in stack.layers if layer.kind == "disk"] == [
        "disk vda",
        "disk vdb",
    ]


def test_no_sys_and_no_proc() -> None:
    gone = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    stack = look(main_stack(), {"read": gone, "listdir": gone})
    assert stack.layers == ()
    assert "cannot list the block devices: not there" in stack.problems
    assert "cannot read the mounts: not there" in stack.problems


def test_a_dm_device_that_tells_nothing_may_have_a_key() -> None:
    """It has to be closed, or else sealed, whatever it is."""
    stack = look(main_stack(), {("dm_status", "253:0"): EIO})
    assert stack.problems == ("cannot read dm-0: I/O error",)
    unread = titled(stack, "unread cryptroot")
    assert isinstance(unread, dm.Dm)
    assert unread.closes
    assert unread.has_live_key
    assert unread.has_key
    assert unread.sectors == 2048
    assert below(stack, "linear vg-root") == {"unread cryptroot"}
    assert below(stack, "unread cryptroot") == {"raid1 md0"}


def test_a_dm_device_that_has_just_gone_is_no_problem() -> None:
    gone = OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    stack = look(main_stack(), {("dm_status", "253:1"): gone})
    assert stack.problems == ()
    assert titled(stack, "crypt cryptroot")


def test_one_device_that_its_kind_cannot_read_does_not_hide_the_others() -> None:
    machine = main_stack()
    machine.devices["9:1"] = Md("md1", "9:1", ("253:1",))
    stack = look(machine, {("read", "/sys/class/block/md0/md/array_state"): EIO})
    assert stack.problems == ("cannot look for md in md0: I/O error",)
    assert below(stack, "crypt cryptroot") == {"disk md0"}
    assert below(stack, "disk md0") == {"disk vda", "disk vdb"}
    assert below(stack, "raid1 md1") == {"linear vg-root"}


def test_an_array_that_is_just_being_forgotten_is_none() -> None:
    machine = main_stack()
    machine.devices["9:1"] = Md("md1", "9:1", ())
    assert any(layer.kind == "md" and layer.name == "md1" for layer in look(machine).layers)
    gone = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    stack = look(machine, {("read", "/sys/class/block/md1/md/array_state"): gone})
    assert not any(layer.kind == "md" and layer.name == "md1" for layer in stack.layers)
    assert stack.problems == ()


def test_a_kind_that_cannot_look_at_all_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault on purpose")

    monkeypatch.setattr(swap, "scan", fail)
    stack = look(main_stack())
    assert stack.problems == ("cannot look for swap: RuntimeError: a fault on purpose",)
    assert titled(stack, "raid1 md0")
