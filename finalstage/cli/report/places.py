"""Where reports of shutdowns are kept, seen from the machine that has started again."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finalstage.cli import config
from finalstage.cli.report import report_file
from finalstage.cli.report.shutdown import NoReportError, Shutdown, read
from finalstage.efi import VARIABLES
from finalstage.keep import MOST_ON_DEVICE, VARIABLE
from finalstage.kernel.linux import LinuxKernel
from finalstage.report import MAGIC

EFI = Path(VARIABLES)
PSTORE = (Path("/sys/fs/pstore"), Path("/var/lib/systemd/pstore"))
"""The latter is where systemd-pstore.service moves what it finds at boot."""

MOST_FILES, MOST_BYTES = 1000, 1 << 24
"""How many files of pstore are read, and how much of one file, pipe or device."""


@dataclass(frozen=True)
class Found:
    """A place that has something, or may: the report in it, or why there is none to be read."""

    place: str
    shutdown: Shutdown | None = None
    problem: str = ""
    takes_root: bool = False


def everywhere() -> list[Found]:
    """Look into all places; the latest report comes first."""
    found = [*_variable(), *_pstore(), *_device()]
    return sorted(found, key=lambda each: -_when(each))


def _when(found: Found) -> float:
    return found.shutdown.when.timestamp() if found.shutdown else 0.0


def _variable() -> Iterator[Found]:
    path = EFI / VARIABLE
    try:
        yield _read("EFI variable", path.read_bytes()[4:])
    except FileNotFoundError:
        if EFI.is_dir() and not any(EFI.iterdir()):
            yield Found("EFI variables", problem=f"not mounted: mount -t efivarfs efivarfs {EFI}")
    except OSError as error:
        yield _failed("EFI variable", error)


def _pstore() -> Iterator[Found]:
    """What a crash has left there is no report; and what is none is nobody's problem here."""
    for top in PSTORE:
        folders: dict[Path, list[bytes]] = {}
        try:
            for path in _files(top):
                with path.open("rb") as stream:
                    folders.setdefault(path.parent, []).append(stream.read(MOST_BYTES))
        except FileNotFoundError:
            continue
        except OSError as error:
            yield _failed(str(top), error)
        for folder, parts in folders.items():
            try:
                yield Found(str(folder), read(b"\n".join(parts)))
            except NoReportError:
                continue


def _files(top: Path) -> list[Path]:
    """Return the files below a folder, those of a name with a larger number behind earlier ones:
    the kernel numbers the parts of a dump from its end. OSError if it cannot be listed."""
    os.listdir(top)  # os.walk() would not say so
    paths = [Path(folder, name) for folder, _, names in os.walk(top) for name in names]
    return sorted(paths, key=lambda path: (path.parent, path.name), reverse=True)[:MOST_FILES]


def _device() -> Iterator[Found]:
    """The partition or the file that the configuration names. Empty, or not there where such a file
    can be, it has no report yet."""
    place = config.read(config.PLACE).options.report_place
    if not place.startswith("/"):
        return
    if target := report_file.unmounted(place):
        yield Found(place, problem=f"{target} is not mounted: mount {shlex.quote(target)}")
        return
    try:
        data = content(place, MOST_ON_DEVICE)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        if is_missing and report_file.is_on_vfat(LinuxKernel(speaks=False), place):
            return
        yield _failed(place, error)
        return
    if data.startswith(MAGIC):
        yield _read(place, data)
    elif any(data):
        yield Found(place, problem="it holds something else than a report")


def content(place: str, most: int = MOST_BYTES) -> bytes:
    """Return the beginning of a file or a device. OSError if it is neither, or cannot be read."""
    # A pipe without a writer would be waited for.
    descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise OSError(0, "not a file or a block device", place)
        return stream.read(most)


def _read(place: str, data: bytes) -> Found:
    try:
        return Found(place, read(data))
    except NoReportError as error:
        return Found(place, problem=str(error))


def _failed(place: str, error: OSError) -> Found:
    reason = (error.strerror or str(error)).lower()
    return Found(place, problem=reason, takes_root=isinstance(error, PermissionError))
