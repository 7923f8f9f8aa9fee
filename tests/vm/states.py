"""Saved machines: one that has booted, and ones whose root lies on a stack."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.vm import builders, content, distro, warehouse
from tests.vm.cache import digest, once
from tests.vm.guest import guest
from tests.vm.hardware import MIB, Hardware, qemu_version
from tests.vm.layers import PASSPHRASE, ROOT, Crypt, Integrity, Luks
from tests.vm.machine import Machine, State
from tests.vm.stacks import Stack

_HERE = Path(__file__).resolve().parent


def base(hardware: Hardware, builder: str = "") -> State:
    """A machine that has booted, waits for orders, and has not looked at its disks yet.

    `builder` is that of its initramfs, if it has not the guest's own (builders.py).
    """
    parts = guest(hardware.kernel)
    initrd = builders.initramfs(builder) if builder else parts.initrd
    code = (_HERE / "hardware.py", _HERE / "machine.py")
    key = digest(parts.version, initrd.parent.name, qemu_version(), hardware, *code)

    async def build(folder: Path) -> None:
        state, tray = State(folder), folder / "tray.raw"
        content.fill_tray(tray)
        boot = (parts.kernel, initrd)
        images = blank(hardware, folder)
        async with Machine(hardware, images, tray, boot=boot, ram=state.ram) as machine:
            await machine.ready()
            await machine.save(state)

    return State(once(f"base-{key}", lambda folder: asyncio.run(build(folder))))


def built(stack: Stack) -> State:
    """A machine whose root lies on `stack` and whose PID 1, a shell on that root, waits."""
    if stack.initramfs and stack.root != INITRAMFS:
        return _rebooted(stack)
    if stack.prepared:
        return _prepared(stack)
    start = base(stack.hardware, stack.initramfs)
    steps = [layer.build() for layer in stack.layers]
    brought = [folder.name for folder in kit(stack, stack.hardware).values()]
    if root := distro_of(stack):
        brought.append(root.parent.name)
    key = digest(
        start.folder.name, stack, steps, brought, _HERE / "states.py", _HERE / "content.py"
    )

    async def build(folder: Path) -> None:
        state, tray = State(folder), folder / "tray.raw"
        subprocess.run(("cp", "--sparse=always", start.ram, state.ram), check=True)
        mebibytes = content.fill_tray(tray, *ingredients(stack), stack.files, root)
        empty = blank(stack.hardware, folder)
        async with Machine(stack.hardware, empty, tray, state=start, ram=state.ram) as machine:
            await raise_root(machine, stack, mebibytes)
            await machine.save(state)
        tray.unlink()

    return State(once(f"stack-{key}", lambda folder: asyncio.run(build(folder))))


def _prepared(stack: Stack) -> State:
    """A machine in which something was done: once, for all rows that begin with it."""
    before = built(replace(stack, prepared="", brought=()))
    key = digest(before.folder.name, stack.prepared, stack.brought, *stack.brought)

    async def build(folder: Path) -> None:
        state, tray = State(folder), folder / "tray.raw"
        _copy(before, state, stack.hardware)
        files = {file.name: file.read_bytes() for file in stack.brought}
        mebibytes = content.fill_tray(tray, {}, files)
        disks = images(state, stack.hardware)
        async with Machine(stack.hardware, disks, tray, state=before, ram=state.ram) as machine:
            script = f"{unpack(mebibytes)}\n{stack.prepared}\nrm -r /run/tray; sync"
            await machine.run(script, INSTALLING)
            await machine.save(state)
        tray.unlink()

    return State(once(f"prepared-{key}", lambda folder: asyncio.run(build(folder))))


def _copy(before: State, state: State, hardware: Hardware) -> None:
    """Copy a machine's RAM and disks."""
    files = {before.ram: state.ram}
    for name, image in images(before, hardware).items():
        files[image] = images(state, hardware)[name]
    for source, target in files.items():
        subprocess.run(("cp", "--sparse=always", source, target), check=True)


def _rebooted(stack: Stack) -> State:
    """A machine that has booted the disks of another one, as after a crash, by an initramfs of its
    own. What had to be done was done before, and in the usual memory."""
    hardware = replace(stack.hardware, command_line="", memory=Hardware.memory)
    before = built(replace(stack, name=stack.root, hardware=hardware, initramfs=""))
    initrd = builders.initramfs(stack.initramfs)
    key = digest(before.folder.name, stack, initrd.parent.name, _HERE / "states.py")

    async def build(folder: Path) -> None:
        state, tray = State(folder), folder / "tray.raw"
        content.fill_tray(tray)
        disks = images(state, stack.hardware)
        for name, image in images(before, stack.hardware).items():
            subprocess.run(("cp", "--sparse=always", image, disks[name]), check=True)
        boot = (guest().kernel, initrd)
        async with Machine(stack.hardware, disks, tray, boot=boot, ram=state.ram) as machine:
            await machine.ready(_BOOTING)
            await machine.run(". /lib/guest/disks")
            await machine.save(state)

    return State(once(f"rebooted-{key}", lambda folder: asyncio.run(build(folder))))


def ingredients(stack: Stack) -> tuple[dict[str, Path], dict[str, bytes]]:
    """What the tray must hold, besides its files, for a stack to be built: folders and blobs."""
    luks = [layer for layer in stack.layers if isinstance(layer, Luks)]
    blobs = {f"{layer.name}.header": _header(layer.keys[0], layer.version) for layer in luks}
    is_whole = stack.root == INITRAMFS or distro.is_distro(stack.root)
    folders = {} if is_whole else {"root": guest().root(stack.root)}
    return folders | kit(stack, stack.hardware), blobs | tables(stack)


def distro_of(stack: Stack) -> Path | None:
    """The archive with the root file system of a stack, if that has an init of its own."""
    return distro.archive(stack.root) if distro.is_distro(stack.root) else None


def kit(stack: Stack, hardware: Hardware) -> dict[str, Path]:
    """The folder that the tray must hold for programs and modules that not every guest has, where
    the stack is built or judged on `hardware`."""
    folder = warehouse.kit(stack.layers, hardware.kernel)
    return {"kit": folder} if folder else {}


def tables(stack: Stack) -> dict[str, bytes]:
    """What the tray must hold, besides its files, for a stack to be built or judged."""
    by_table = [layer for layer in stack.layers if isinstance(layer, Crypt | Integrity)]
    return {f"{layer.name}.table": layer.table for layer in by_table}


def unpack(mebibytes: int, target: str = "/run/tray", *, behind: int = 0) -> str:
    """Shell text that unpacks a tray whose archive has so many MiB, and lies `behind` so many.

    Large reads past the cache, which may hold blocks of an earlier tray: tar's own small ones take
    ten times as long under emulation.
    """
    reading = f"dd if=/dev/disk/tray bs=1M count={mebibytes} skip={behind} iflag=direct"
    return f"mkdir -p {target}; {reading} status=none | tar -x -C {target}"


async def raise_root(machine: Machine, stack: Stack, mebibytes: int) -> None:
    """Build `stack` in a machine that has just booted, fill it, and switch its root to it.

    `mebibytes` is the size of what its tray holds.
    """
    await machine.run(f"{DRIVERS}\n{unpack(mebibytes)}\n{TAKE_KIT}")
    for layer in stack.layers:
        await machine.run("\n".join(f"modprobe {name}" for name in layer.modules))
        await machine.run(layer.build())
    root = distro_of(stack)
    if root:
        size = content.in_mebibytes(root)
        await machine.run(unpack(size, ROOT, behind=mebibytes), _UNPACKING)
        await machine.run(_LISTEN)
    elif stack.root != INITRAMFS:
        await machine.run(_FILL)
    await machine.run("\n".join(file.write(ROOT) for file in stack.files))
    await machine.run("rm -r /run/tray; sync")
    if root:
        await machine.become(f"{_SWITCH} {distro.RECIPES[stack.root].init}")
        await machine.ready(_BOOTING)
    elif stack.root != INITRAMFS:
        await machine.become(f"{_SWITCH} /bin/sh /lib/guest/listen")
        await machine.ready()


TAKE_KIT = "[ ! -d /run/tray/kit ] || cp -a /run/tray/kit/. /"
# The kind of root where PID 1 stays on the initramfs, and the stack is only mounted.
INITRAMFS = "initramfs"
# Bytes of a LUKS header. That of LUKS1 has eight key slots of 250 KiB.
HEADER = 4 * MIB
# The drivers of all kinds of disk; a base state has none loaded, and so has read no disk.
DISKS = ". /lib/guest/disks"
DRIVERS = f"""
for driver in virtio_blk virtio_scsi sd_mod; do modprobe $driver; done
{DISKS}"""
# Seconds that finalstage may take to be installed and staged, a whole root file system to be
# unpacked, and its init to be up.
INSTALLING = 180
_UNPACKING = 180
_BOOTING = 300
_LISTEN = f"cp -a /lib/guest {ROOT}/lib/"
_FILL = f"""
cp -a /run/tray/root/. {ROOT}/
{_LISTEN}"""
_SWITCH = f"""
for each in dev proc sys run; do mount -o move /$each {ROOT}/$each; done
exec switch_root {ROOT}"""


def images(state: State, hardware: Hardware) -> dict[str, Path]:
    """The image files that belong to a saved state, by the names of the disks."""
    return {disk.name: state.folder / f"{disk.name}.raw" for disk in hardware.disks}


def blank(hardware: Hardware, folder: Path) -> dict[str, Path]:
    """Empty images for all disks, in `folder`."""
    found = images(State(folder), hardware)
    for disk in hardware.disks:
        with found[disk.name].open("wb") as stream:
            stream.truncate(disk.size * MIB)
    return found


def _header(key: bytes, version: int) -> bytes:
    """A LUKS header for the volume key `key`, made by the guest's cryptsetup, here.

    A header needs no device-mapper; so this machine makes it, and no guest sees the key as text.
    """
    tree = guest().oracle
    libraries = f"{tree}/lib/x86_64-linux-gnu:{tree}/usr/lib/x86_64-linux-gnu"
    loader = (tree / "lib64/ld-linux-x86-64.so.2", "--library-path", libraries)
    form = ("--type", f"luks{version}", "--cipher", "aes-xts-plain64", "--key-size", "512")
    small: tuple[str, ...] = ("--offset", str(HEADER // 512))
    fast: tuple[str, ...] = ("--pbkdf-force-iterations", "1000")
    if version == 2:
        small += ("--luks2-metadata-size", "16k", "--luks2-keyslots-size", "512k")
        fast += ("--pbkdf", "pbkdf2")
    with tempfile.TemporaryDirectory() as folder:
        key_file, header = Path(folder, "key"), Path(folder, "header")
        key_file.write_bytes(key)
        header.write_bytes(bytes(2 * HEADER))
        keys = ("--volume-key-file", key_file, "--key-file", "-")
        subprocess.run(
            (*loader, tree / "sbin/cryptsetup", "luksFormat", *form, *small, *fast, *keys, header),
            input=PASSPHRASE.encode(),
            check=True,
            capture_output=True,
        )
        return header.read_bytes()[:HEADER]
