"""What people call a layer, and which layer they mean.

A target is a mount point, the path of a block device or of one of the links to it that udev makes,
a file behind a loop device or a swap area, the name of a mapped device, a volume as VG/LV, a kernel
name such as md0, or a UUID, label or partition's UUID or label, as they stand in fstab(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from finalstage.bounded import bind
from finalstage.cli import superblocks
from finalstage.cli.errors import TargetError
from finalstage.kernel import Kernel, Stat
from finalstage.layers.loop import Loop
from finalstage.layers.mount import Mount
from finalstage.layers.swap import Swap
from finalstage.stack import Layer, Stack, covering
from finalstage.world import block_id, describe

TAGS = {
    "UUID": "by-uuid",
    "LABEL": "by-label",
    "PARTUUID": "by-partuuid",
    "PARTLABEL": "by-partlabel",
}
"""What may stand before a ``=``, and in which folder of /dev/disk udev has links of that kind."""

ANSWER_SECONDS = 5.0
"""How long a path may take to say what it is: it may lie on a network file system."""

NOT_FOUND = "no such target"


def find(kernel: Kernel, stack: Stack, words: Iterable[str]) -> list[Layer]:
    """Return the layers that are meant, in the order in which they were named.

    Raises TargetError for what is no target, and for what is meant twice.
    """
    found: dict[str, str] = {}
    for word in words:
        layer = find_one(kernel, stack, word)
        if layer.id in found:
            both = f"{shown(found[layer.id])} and {shown(word)} are both {layer.title}"
            raise TargetError(
                f"{shown(word)} is named twice" if found[layer.id] == word else both,
                "name each target once",
            )
        found[layer.id] = word
    return [stack.by_id[id] for id in found]


def find_one(kernel: Kernel, stack: Stack, word: str) -> Layer:
    """Return the layer that is meant. Raises TargetError if there is none."""
    if not word:
        raise TargetError("an empty word is no target", "name one, or leave it out")
    if word.startswith(("/", "./", "../")):
        return _at_path(kernel, stack, word)
    tag, equals, value = word.partition("=")
    if equals and tag in TAGS:
        return _tagged(kernel, stack, word, (tag,), value)
    for layer in stack.layers:
        if word in names(kernel, layer):
            return layer
    if _looks_like_uuid(word):
        return _tagged(kernel, stack, word, ("UUID", "PARTUUID"), word)
    return _at_path(kernel, stack, word)


def names(kernel: Kernel, layer: Layer) -> set[str]:
    """Return what a block device is called without a path: its own name, the kernel's, VG/LV. Of a
    mount or a swap area there is none."""
    if not layer.id.startswith("block:"):
        return set()
    found = {layer.name, kernel_name(kernel, layer)}
    if volume := volume_of(layer):
        found.add("/".join(volume))
    return found


def kernel_name(kernel: Kernel, layer: Layer) -> str:
    """Return what the kernel calls a block device, such as dm-3; "" if it is gone, or is none."""
    try:
        return kernel.readlink(f"/sys/dev/block/{layer.device}").rpartition("/")[2]
    except OSError:
        return ""


def volume_of(layer: Layer) -> tuple[str, str] | None:
    """Return the volume group and the volume that a mapped device of LVM is, or None.

    Their hyphens are doubled in its name: lvm(8), dm_build_dm_name() in lvm2's libdm.
    """
    if not getattr(layer, "uuid", "").startswith("LVM-"):
        return None
    parts = layer.name.replace("--", "\0").split("-")
    if len(parts) < 2:
        return None
    group, volume = parts[0], "-".join(parts[1:])
    return group.replace("\0", "-"), volume.replace("\0", "-")


def shown(word: str) -> str:
    """Return a target as it may stand in a message of one line."""
    text = word.encode("utf-8", "backslashreplace").decode()
    return repr(text) if not text.isprintable() or " " in text else text


def _at_path(kernel: Kernel, stack: Stack, word: str) -> Layer:
    found = _stat(kernel, word)
    if found.is_block:
        layer = stack.get(block_id(found.special))
        if layer is None:
            raise TargetError(f"{shown(word)} is a block device that is not in use here")
        return layer
    if layer := _mounted_at(stack, word) or _made_of(kernel, stack, found):
        return layer
    what = "is neither a mount point nor a block device, nor a file behind one"
    on = _lies_on(stack, found)
    raise TargetError(f"{shown(word)} {what}", f"it lies on {on.title}" if on else "")


def _stat(kernel: Kernel, word: str) -> Stat:
    call = kernel.start(word, bind(kernel.stat, word))
    kernel.wait((call,), ANSWER_SECONDS)
    if not call.done:
        raise TargetError(f"{shown(word)} gives no answer in {ANSWER_SECONDS:.0f} s")
    if isinstance(call.error, FileNotFoundError | NotADirectoryError):
        raise TargetError(f"{shown(word)}: {NOT_FOUND}", "`finalstage plan` shows all there are")
    if call.error:
        raise TargetError(f"cannot look at {shown(word)}: {describe(call.error)}")
    assert isinstance(call.value, Stat)
    return call.value


def _mounted_at(stack: Stack, word: str) -> Layer | None:
    """Return the uppermost mount at a path: the last one, as the kernel lists them."""
    path = "/" + absolute(word).strip("/")
    places = [each for each in stack.layers if isinstance(each, Mount) and each.target == path]
    return places[-1] if places else None


def absolute(word: str) -> str:
    """Return a path from the root, without links and dots in it."""
    return os.path.realpath(word)


def _made_of(kernel: Kernel, stack: Stack, found: Stat) -> Layer | None:
    """Return the loop device or swap area whose file this is."""
    for layer in stack.layers:
        path = layer.backing if isinstance(layer, Loop) else ""
        path = layer.path if isinstance(layer, Swap) and not layer.area else path
        if not path:
            continue
        try:
            other = _stat(kernel, path)
        except TargetError:
            continue
        if (other.device, other.inode) == (found.device, found.inode):
            return layer
    return None


def _lies_on(stack: Stack, found: Stat) -> Layer | None:
    mounts = [each for each in stack.layers if each.kind == "mount" and each.device == found.device]
    return mounts[0] if mounts else None


def _tagged(kernel: Kernel, stack: Stack, word: str, tags: tuple[str, ...], value: str) -> Layer:
    """Return the device with a UUID or label: by udev's links, whose names have what is odd in them
    as \\x20: encode_devnode_name() in systemd's src/shared/device-nodes.c. Where there is none,
    root reads what stands on the devices."""
    for tag in tags:
        for name in dict.fromkeys(map(_encoded, (value, value.lower(), value.upper()))):
            try:
                found = kernel.stat(f"/dev/disk/{TAGS[tag]}/{name}")
            except OSError:
                continue
            layer = stack.get(block_id(found.special))
            if layer is not None:
                return layer
    for tag in tags if os.geteuid() == 0 else ():
        if layers := _on_devices(kernel, stack, tag, value):
            if len(layers) > 1:
                names = ", ".join(layer.title for layer in layers)
                raise TargetError(f"{shown(word)} is on several: {names}", "name one of them")
            return layers[0]
    raise TargetError(f"{shown(word)}: {NOT_FOUND}", "`finalstage plan` shows all there are")


def _on_devices(kernel: Kernel, stack: Stack, tag: str, value: str) -> list[Layer]:
    """Return the devices on which a UUID or label stands: of a mirror and its members the mirror,
    of members of an array that array, of the devices of a btrfs one."""
    paths = {
        f"/dev/{name}": layer
        for layer in stack.layers
        if layer.id.startswith("block:") and (name := kernel_name(kernel, layer))
    }
    found = superblocks.read_all([path for path in paths if os.path.exists(path)])
    meant = {paths[path].id: tags for path, tags in found.items() if tags.has(tag, value)}
    ids: dict[str, None] = {}
    for id, tags in meant.items():
        above = [upper for upper in stack.above[id] if stack.by_id[upper].kind == "md"]
        ids |= dict.fromkeys(above if above and tags.type == superblocks.MEMBER else [id])
    lower = {under for id in ids for under in covering(stack, (id,)) if under != id}
    layers = [stack.by_id[id] for id in ids if id not in lower]
    one_file_system = {tags.type for tags in meant.values()} == {"btrfs"}
    return layers[:1] if one_file_system else layers


def _encoded(value: str) -> str:
    plain = "#+-.:=@_"
    return "".join(
        each if each.isalnum() or each in plain or ord(each) > 127 else f"\\x{ord(each):02x}"
        for each in value
    )


def _looks_like_uuid(word: str) -> bool:
    return "-" in word and set(word.lower()) <= set("0123456789abcdef-")
