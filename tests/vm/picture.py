"""`python -m tests.vm.picture`: the plan of a real machine with layers of many kinds, as the README
shows it: the picture pictures/plan.svg, and the text, which is put into the README."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.vm.hardware import Disk, Hardware
from tests.vm.layers import Bcache, Ext4, Gpt, Luks, LuksFile, Lvm, Raid, Swap
from tests.vm.living import TOOL, Living, live
from tests.vm.readme import put
from tests.vm.stacks import Stack

PICTURES = Path(__file__).resolve().parent / "pictures"
PICTURED = Stack(
    "for a picture",
    Hardware((Disk("a"), Disk("b"), Disk("c", 96), Disk("d", 96), Disk("e", 128))),
    (
        Raid("md0", ("disk/a", "disk/b")),
        Luks("crypt", "md0"),
        Lvm(
            "vg",
            ("mapper/crypt",),
            (
                ("pool", "-L 200M --type thin-pool"),
                ("root", "-V 120M --thinpool pool"),
                ("srv", "-V 64M --thinpool pool"),
                ("swap", "-L 32M"),
            ),
            modules=("dm-thin-pool",),
        ),
        Ext4("vg/root", "/"),
        Swap("vg/swap"),
        Ext4("vg/srv", "/srv"),
        Bcache("bcache0", "disk/c", "disk/d"),
        Ext4("bcache0", "/var/cache"),
        Gpt("disk/e", 128, (32, 88)),
        Ext4("disk/e-1", "/boot"),
        Ext4("disk/e-2", "/backup"),
        LuksFile("vault", "/backup/vault", mib=48),
        Ext4("mapper/vault", "/vault"),
    ),
    files=(),
)
USERS = """
cp /run/holder /run/postgres; cp /run/holder /run/@keeper
cd /run; /run/postgres /srv/data </dev/null >/dev/null 2>&1 &
(exec </vault/lost+found; PATH=/ exec /bin/busybox chroot /run @keeper /held >/run/said 2>&1) &
until [ -f /srv/data ] && [ -f /run/held ]; do :; done"""
"""Who is at work there. The second calls itself a storage daemon, and so is not ended; it keeps
away from root, as such daemons should, but has something of a volume open."""


async def draw(living: Living) -> None:
    """Have the machine draw itself, with the tree staged."""
    await living.run(USERS)
    await living.call("stage")
    (PICTURES / "plan.svg").write_text((await living.call("plan", "--svg")).text + "\n")
    text = await living.run(f"{TOOL} plan | cat")
    if put("plan", "\n".join(f"    {line}".rstrip() for line in text.splitlines())):
        print(text)


def main() -> int:
    """Make it. Returns 0."""
    live(PICTURED, draw, tools=("holder",))
    return 0


if __name__ == "__main__":
    sys.exit(main())
