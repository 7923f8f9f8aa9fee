"""A real machine looks at itself: `finalstage plan` as root, as nobody, of parts, of what is none,
and with its root hanging. Nothing is changed by it."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ElementTree
from typing import Any

from finalstage.cli.errors import DONE, NOT_UNDERSTOOD
from tests.vm.living import TOOL, Living, live
from tests.vm.stacks import MAIN

ODD = "/mnt/a\nb c"
MIRROR = "/sys/class/block/md0/md"
MEMORY = "/run/unpacked"
"""Where the program unpacks itself, so that not even that gets to a disk."""

NOBODY = "nobody:x:65534:65534::/:/bin/sh"
PREPARE = f"""
mount -o remount,noatime /
mkdir -m 1777 {MEMORY}
echo {NOBODY} >/etc/passwd
mkdir {shlex.quote(ODD)}
mount -o bind /data {shlex.quote(ODD)}
chmod 755 {TOOL}
sync
until grep -qx clean {MIRROR}/array_state; do :; done  # which the kernel notes a moment later"""
STATE = """
cat /proc/self/mountinfo /proc/swaps /proc/modules
ls /dev /dev/mapper
for each in /sys/class/block/*/stat; do awk '{print FILENAME, $5, $7}' $each; done"""
"""What a change would show in: mounts, modules, nodes, and what disks have written."""


def test_a_machine_looks_at_itself() -> None:
    live(MAIN, looks, tools=("trouble",))


async def looks(living: Living) -> None:
    """Try all of it on one machine."""
    await living.run(PREPARE)
    await nothing_is_changed(living)
    await as_root(living)
    await as_nobody(living)
    await by_uuid_without_udev(living)
    await what_is_no_target(living)
    await with_a_tree(living)
    await with_a_root_that_hangs(living)


async def plan(living: Living, *words: str) -> Any:
    """The plan as a program reads it, and by the titles of layers."""
    answer = await living.call("plan", "--json", *words)
    assert answer.status == DONE, answer.text
    found = json.loads(answer.text)
    found["by"] = {layer["title"]: layer for layer in found["layers"]}
    return found


async def nothing_is_changed(living: Living) -> None:
    before = await living.run(STATE)
    drawn = await living.run(f"TMPDIR={MEMORY} {TOOL} plan --svg")
    assert await living.run(STATE) == before
    words = "".join(ElementTree.fromstring(drawn).itertext())
    assert all(word in words for word in ("vda", "md0", "LUKS2", "vg-root"))
    await living.run("echo x >/data/x; sync")  # as a control
    assert await living.run(STATE) != before


async def as_root(living: Living) -> None:
    found = await plan(living)
    chain = ["ext4 /", "linear vg-root", "crypt crypt", "raid1 md0", "disk vdb"]
    steps = [found["by"][title]["step"] for title in chain]
    assert steps == sorted(set(steps)) and found["unseen"] == []
    crypt, root = found["by"]["crypt crypt"], found["by"]["ext4 /"]
    assert (crypt["encryption"], root["encrypted"]) == ("LUKS2", True)
    assert not found["by"]["raid1 md0"]["encrypted"]
    assert crypt["fate"]["what"] == "seal" and "no tree is staged" in crypt["fate"]["why"]
    assert any(words.startswith("sh[1]") for words in root["processes"])
    assert found["by"]["linear vg-root"]["size"] == 280 << 20
    assert any(layer["name"] == ODD for layer in found["layers"])
    coloured = (await living.call("plan")).text  # its console is a terminal
    text = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert coloured != text and max(map(len, text.splitlines())) <= 80
    assert r"ext4 /mnt/a\nb c" in text and re.search(r"crypt crypt +\d+ MiB +LUKS2 ", text)


async def as_nobody(living: Living) -> None:
    command = f"TMPDIR={MEMORY} {TOOL} plan"
    said = await living.run(f"su nobody -c {shlex.quote(command)} 2>&1 </dev/null")
    assert "LUKS2" in said and "linear vg-root" not in said and "volume vg-root" in said
    assert re.search(
        r"not seen: the tables of 2 mapped devices and open files of \d+ processes; root sees",
        said,
    )


async def by_uuid_without_udev(living: Living) -> None:
    assert not (await living.run("ls /dev/disk/by-uuid 2>/dev/null || true")).strip()
    uuid = (await living.run("dd if=/dev/md0 bs=1 skip=168 count=36 2>/dev/null; echo")).strip()
    found = await plan(living, f"UUID={uuid}")
    (target,) = found["targets"]
    assert found["by"]["raid1 md0"]["id"] == target
    members = (await living.run(f"cat {MIRROR}/uuid; echo")).strip()
    assert (await plan(living, f"UUID={members}"))["targets"] == [target]
    found = await plan(living, "vg/root", ODD)
    assert {layer["title"] for layer in found["layers"] if layer["context"]} >= {"crypt crypt"}


async def what_is_no_target(living: Living) -> None:
    await living.run("mkfifo /run/pipe; mknod /run/none b 250 0")
    for words, why in (
        (("/nowhere",), "/nowhere: no such target"),
        (("no\nwhere",), r"'no\nwhere': no such target"),
        (("/run/pipe",), "/run/pipe is neither a mount point nor a block device"),
        (("/run/none",), "/run/none is a block device that is not in use here"),
        (("crypt", "/dev/mapper/crypt"), "crypt and /dev/mapper/crypt are both crypt crypt"),
    ):
        answer = await living.call("plan", *words)
        assert answer.status == NOT_UNDERSTOOD, answer
        assert answer.text.count("\n") == 0 and why in answer.text, answer


async def with_a_tree(living: Living) -> None:
    await living.run("mkdir -p /run/initramfs; mount -t tmpfs finalstage /run/initramfs")
    found = await plan(living)
    crypt = found["by"]["crypt crypt"]
    assert crypt["fate"] == {"what": "close", "why": "after the pivot"}
    kept = found["by"]["tmpfs /run/initramfs"]
    assert kept["fate"]["what"] == "keep" and kept["step"] is None


async def with_a_root_that_hangs(living: Living) -> None:
    """It is a dead device to whoever would read it. The rest is answered all the same."""
    await living.run("sync; /run/trouble suspend vg-root")
    call = f"TMPDIR={MEMORY} {TOOL} plan"  # for what it unpacked would be removed from root
    found = json.loads(await living.run(f"{call} --json"))
    volume = next(each for each in found["layers"] if each["title"] == "linear vg-root")
    assert "is suspended" in volume["fate"]["why"]
    said = await living.run(f"{call} UUID=0-0 2>&1 || echo status $?")
    assert "no such target" in said and said.strip().endswith(f"status {NOT_UNDERSTOOD}")
