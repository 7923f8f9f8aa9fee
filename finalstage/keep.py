"""Where the report is kept while the machine has no power: an EFI variable, pstore, a partition, a
file on a vfat file system.

Nothing that something stood on is ever written to: only a partition that the configuration names,
which nobody had in use, and which holds an earlier report, or nothing. The one thing that may have
stood on it is that vfat file system itself, when it is unmounted.
"""

from __future__ import annotations

from finalstage import efi, vfat
from finalstage.bounded import bounded
from finalstage.kernel import SECTOR
from finalstage.lines import Line
from finalstage.report import MAGIC
from finalstage.stack import covering
from finalstage.value import Value
from finalstage.vfat import refusal
from finalstage.world import block_id, text_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from finalstage.kernel import Kernel
    from finalstage.stack import Stack

    Written = Callable[[int], bytes]

SECONDS, LOOK_UP_SECONDS = 3.0, 1.0
"""Firmware may be slow to write to its flash memory."""

VARIABLE = "FinalstageReport-30382736-b7b0-4252-acf7-70b5f8f180eb"
MOST_IN_VARIABLE = (4000, 900)
"""Bytes, and what to try next: how large a variable may be is the firmware's own choice, and 1,024
with its head and its name is what EDK II takes where nobody has set it (PcdMaxVariableSize). It is
written once a shutdown."""

MOST_ON_DEVICE = 1 << 16
EMPTY = 1 << 17
"""Bytes at the beginning of a partition that must be zero where there is no report: no file system,
no LUKS, LVM, md or swap has its first superblock behind that, but for md at the end, and what
belongs to an array that is assembled is in use."""

BACKEND = "/sys/module/pstore/parameters/backend"
DUMP_ALWAYS = "/sys/module/printk/parameters/always_kmsg_dump"
"""Whether the end of the kernel's log goes to pstore as the machine goes down, and not only when it
crashes: kmsg_dump_desc() in kernel/printk/printk.c. The backend's max_reason may forbid it. The
other way, /dev/pmsg0, takes CONFIG_PSTORE_PMSG, which Debian's 6.1 has not, and ramoops."""

MOST_IN_LOG, PIECE = 4000, 800
"""Bytes, of the 10,240 of a log that pstore keeps by default (pstore.kmsg_bytes), and of a record.
"""


class Place(Value):
    """Where it is to be kept: what the configuration says, and the device that this was when there
    still was something to look it up in, with the path of a file on it, if it is one."""

    name: str
    device: str = ""
    file: str = ""
    problem: str = ""


def look_up(kernel: Kernel, name: str, old_root: str, until: float) -> Place:
    """Return the place that is called so, if it is no device below `old_root`; never raises."""
    if name[:1] != "/":
        return Place(name)
    found: list[tuple[str, str]] = []

    def look() -> None:
        special, _, file = name.partition(vfat.WITHIN)
        device = _device(kernel, special)
        if not device and (file or name.startswith("/dev/")):
            raise refusal("it is no block device")
        found.append((device, file) if device else vfat.find(kernel, old_root + name))

    error = bounded(kernel, "report", look, LOOK_UP_SECONDS, until)
    return Place(name, problem=error) if error else Place(name, *found[0])


def _device(kernel: Kernel, path: str) -> str:
    """Return which block device this is, "" if none. OSError if it is not there, but should be."""
    try:
        stat = kernel.stat(path)
    except FileNotFoundError:
        if path.startswith("/dev/"):
            raise
        return ""
    return stat.special if stat.is_block else ""


def keep(
    kernel: Kernel,
    place: Place,
    stack: Stack,
    taken: Container[str],
    written: Written,
    until: float,
) -> list[Line]:
    """Write the report, and say where it is; never raises, and returns by `until`.

    `taken` are layers of the stack that are never written to. `written` gives the report in at
    most so many bytes.
    """
    said: list[str] = []

    def act() -> None:
        if place.file:
            _refuse_below(place, stack, taken)
            vfat.put(kernel, place.device, place.file, written(MOST_ON_DEVICE))
            said.append(f"kept the report in {place.name}")
        elif place.device:
            _refuse_in_use(place, stack, taken)
            _on_device(kernel, place, written)
            said.append(f"kept the report on {place.name}")
        elif place.name in ("auto", "efi") and efi.are_there(kernel):
            _in_variable(kernel, written)
            said.append("kept the report in an EFI variable")
        elif place.name == "efi":
            raise refusal("there are no EFI variables")
        elif backend := _backend(kernel, place):
            _in_log(kernel, written)
            said.append(f"left the report to the kernel, for pstore by {backend}")

    problem = place.problem
    if place.name != "none" and not problem:
        problem = bounded(kernel, "keep", act, SECONDS, until)
    if problem:
        where = "" if place.name == "auto" else f" in {place.name}"
        return [Line(f"cannot keep the report{where}: {problem}", bad=place.name != "auto")]
    return [Line(words) for words in said]


def _in_variable(kernel: Kernel, written: Written) -> None:
    most, less = MOST_IN_VARIABLE
    try:
        efi.store(kernel, VARIABLE, written(most))
    except OSError:
        efi.store(kernel, VARIABLE, written(less))


def _refuse_in_use(place: Place, stack: Stack, taken: Container[str]) -> None:
    """Raise OSError unless a place is a device on which nothing stands, or stood."""
    layer = stack.get(block_id(place.device))
    if layer is None:
        raise refusal("it is not there any more")
    if layer.closes or layer.id in taken or stack.above[layer.id]:
        raise refusal("something stood on it")


def _refuse_below(place: Place, stack: Stack, taken: Container[str]) -> None:
    """Raise OSError unless a file is on a device that stays, and on which nothing but its file
    system stood."""
    if stack.get(block_id(place.device)) is None:
        raise refusal("its device is not there any more")
    if stack.above[block_id(place.device)]:
        raise refusal("its file system could not be unmounted")
    below = covering(stack, (block_id(place.device),))
    if any(id in taken or stack.by_id[id].closes for id in below):
        raise refusal("something else stood on its device")


def _on_device(kernel: Kernel, place: Place, written: Written) -> None:
    """Write it to a device that has an older one, or nothing."""
    start = kernel.read_device(place.device, EMPTY)
    if not start.startswith(MAGIC) and any(start):
        raise refusal(
            f"it holds something else; fill its first {EMPTY} bytes with zeros if nobody needs that"
        )
    data = written(min(MOST_ON_DEVICE, len(start)))
    kernel.write_device(place.device, data + bytes(-len(data) % SECTOR))


def _backend(kernel: Kernel, place: Place) -> str:
    """Return what pstore writes to, where the report is to go there: not by itself to EFI
    variables, of which a dump takes many. OSError if it must, and there is nothing."""
    backend = text_if_there(kernel, BACKEND)
    is_there = backend not in ("", "(null)")
    if place.name == "pstore" and not is_there:
        raise refusal("pstore has no backend")
    return backend if is_there and (place.name == "pstore" or backend != "efi") else ""


def _in_log(kernel: Kernel, written: Written) -> None:
    """Make it the end of the kernel's log, and have that dumped."""
    kernel.write(DUMP_ALWAYS, b"Y")
    report = written(MOST_IN_LOG)
    body = report[report.index(b"\n", len(MAGIC)) + 1 :]
    head = report[len(MAGIC) : -len(body) - 1]
    pieces = [body[start : start + PIECE] for start in range(0, len(body), PIECE)]
    for number, piece in enumerate(pieces, 1):
        kernel.log(b"<7>finalstage: kept %d/%d %b %b" % (number, len(pieces), head, piece))
