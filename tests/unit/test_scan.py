"""Kernel to stack: what is recognised, what stands on what, and what cannot be read."""

from __future__ import annotations

import errno
import os

from finalstage.kernel import Target
from finalstage.scan import scan
from finalstage.stack import Layer, Stack
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.partition import Partition
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine
from tests.sim.stacks import main_stack

OWN = frozenset(("/", "/proc", "/sys", "/dev"))


def look(machine: Machine, faults: dict[object, object] | None = None) -> Stack:
    """Scan a simulated machine as the stage does."""
    return scan(SimKernel(machine, faults), OWN, "/oldroot")


def titled(stack: Stack, title: str) -> Layer:
    """Return the layer with a title."""
    (found,) = [layer for layer in stack.layers if layer.title == title]
    return found


def below(stack: Stack, title: str) -> set[str]:
    """Return the titles of what a layer stands on."""
    by_id = stack.by_id()
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


def test_what_cannot_be_read_is_named_and_the_rest_is_there() -> None:
    gone = OSError(errno.EIO, os.strerror(errno.EIO))
    stack = look(main_stack(), {("read", "/sys/class/block/vdb/size"): gone})
    assert stack.problems == ("cannot read block device vdb: I/O error",)
    assert below(stack, "raid1 md0") == {"disk vda"}


def test_no_sys_and_no_proc() -> None:
    gone = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    stack = look(main_stack(), {"read": gone, "listdir": gone})
    assert stack.layers == ()
    assert "cannot list the block devices: not there" in stack.problems
    assert "cannot read the mounts: not there" in stack.problems


def test_one_kind_that_fails_does_not_hide_the_others() -> None:
    stack = look(main_stack(), {"dm_status": OSError(errno.EPERM, os.strerror(errno.EPERM))})
    assert stack.problems == ("cannot look for dm: operation not permitted",)
    assert titled(stack, "raid1 md0")
