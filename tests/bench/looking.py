"""`python -m tests.bench.looking [LAYERS] [--real]`: how long `finalstage plan` takes.

On simulated machines of so many layers, in this process, each form of it; of the whole command, on
this machine as it is. With --real also on loop devices and what is mounted from them, half of each,
on files of its own and in a mount namespace of its own; that takes root.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from finalstage.cli import terminal
from finalstage.cli.plan import document, dot, picture, text
from finalstage.cli.plan.outlook import Outlook, look
from finalstage.kernel import Kernel
from tests.bench.planning import MACHINES
from tests.vm.cache import PROJECT

LAYERS, ROUNDS = 1_000, 3
FORMS: dict[str, Callable[[Outlook], str]] = {
    "text": lambda outlook: "\n".join(text.draw(outlook, terminal.console())),
    "--json": lambda outlook: document.write(outlook, []),
    "--dot": dot.draw,
    "--svg": picture.draw,
}
TOOL = PROJECT / "dist" / "finalstage"

LOOP_CONTROL, LOOP_MAJOR = "/dev/loop-control", 7
LOOP_SET_FD, LOOP_CLR_FD, LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82
"""<linux/loop.h>, <linux/major.h>."""

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 1 << 14, 1 << 18
"""<linux/sched.h>, <linux/mount.h>."""

IMAGE_KIB = 256


def main(arguments: list[str]) -> int:
    """Measure, and print seconds of processor time, the least of some rounds: the machine may have
    other things to do besides."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.looking", description=__doc__)
    parser.add_argument("layers", nargs="?", type=int, default=LAYERS)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args(arguments)
    for name, build in MACHINES.items():
        machine = cast(Kernel, build(options.layers))
        outlook = look(machine, (), 32)
        print(f"{name}, {len(outlook.stack.layers)} layers, in process: {_forms(machine)}")
    print(f"this machine, whole command: {_commands()}")
    if options.real:
        with loops(options.layers // 2):
            print(f"{options.layers // 2} loop devices, each mounted, whole command: {_commands()}")
    return 0


def least(act: Callable[[], object]) -> float:
    """Return the least of the seconds of a processor that it takes."""
    found = []
    for _ in range(ROUNDS):
        began = sum(os.times()[:4])  # its own, and those of commands that have ended
        act()
        found.append(sum(os.times()[:4]) - began)
    return min(found)


def _forms(machine: Kernel) -> str:
    times = {
        name: least(lambda draw=draw: draw(look(machine, (), 32)))  # type: ignore[misc]
        for name, draw in FORMS.items()
    }
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())


def _commands() -> str:
    """Call the program that people call."""
    said = []
    for name in FORMS:
        words = (TOOL, "plan", *((name,) if name.startswith("--") else ()))
        seconds = least(lambda words=words: subprocess.run(words, check=True, capture_output=True))  # type: ignore[misc]
        said.append(f"{name} {seconds:.2f} s")
    return ", ".join(said)


@contextmanager
def loops(count: int) -> Iterator[None]:
    """Have so many loop devices, with a file system mounted from each, for a while. This process is
    in a mount namespace of its own from then on."""
    _call("unshare", CLONE_NEWNS)
    _call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        used = []
        try:
            for number in range(count):
                used.append(_loop(Path(folder), number))
            yield
        finally:
            for place, node in used:
                _call("umount", os.fsencode(place))
                _ioctl(node, LOOP_CLR_FD)


def _loop(folder: Path, number: int) -> tuple[Path, Path]:
    """Make a file system, a loop device of it, and a mount; return its place and the device."""
    image, place, node = (folder / f"{kind}{number}" for kind in ("image", "place", "node"))
    with image.open("wb") as file:
        file.truncate(IMAGE_KIB << 10)
    subprocess.run(
        ("mkfs.ext4", "-q", "-O", "^has_journal", image), check=True, capture_output=True
    )
    place.mkdir()
    free = _ioctl(Path(LOOP_CONTROL), LOOP_CTL_GET_FREE)
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(LOOP_MAJOR, free))
    descriptor = os.open(image, os.O_RDWR)
    try:
        _ioctl(node, LOOP_SET_FD, descriptor)
    finally:
        os.close(descriptor)
    _call("mount", os.fsencode(node), os.fsencode(place), b"ext4", 0, None)
    return place, node


def _ioctl(path: Path, request: int, argument: int = 0) -> int:
    descriptor = os.open(path, os.O_RDWR)
    try:
        return fcntl.ioctl(descriptor, request, argument)
    finally:
        os.close(descriptor)


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
