"""A machine with 64 MB of memory, and ext4 on LVM on LUKS: staged as it boots, by the tool itself,
and taken down by busybox's init."""

from __future__ import annotations

from dataclasses import replace

from tests.vm.conftest import Happen
from tests.vm.expected import Expected
from tests.vm.inits import INSTALLED, TOOL
from tests.vm.part import whole
from tests.vm.rows import Row
from tests.vm.stacks import with_little_memory

# It begins to stage when the listener is started, too.
STAGED = "until [ -x /run/initramfs/shutdown ]; do usleep 10000; done"
SMALL = "[ $(sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) -le 65536 ]"
# That the tool is there is not enough: it has staged the tree itself, and in this memory.
BY_TOOL = "grep -q '^finalstage /run/initramfs tmpfs' /proc/mounts"


@whole
def test_closes_everything(happen: Happen) -> None:
    row = Row(
        "busybox: poweroff with 64 MB of memory",
        replace(with_little_memory(), prepared=INSTALLED, brought=(TOOL,)),
        "poweroff",
        staging="",
        before=(SMALL, STAGED, BY_TOOL),
        expected=Expected(says=("remaining 0, keys left 0",)),
    )
    assert not happen(row).problems, f"see {row.folder}"
