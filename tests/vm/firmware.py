"""UEFI in the guest that knows memory overwrite requests: Debian's OVMF, and swtpm as its TPM.

OVMF takes such a request only where it runs in system management mode and finds a TPM, and keeps
the variable only if it was there at boot; else nobody may make it (EDK II, TcgMorLockSmm.c). So
it is written into the flash memory before.
"""

from __future__ import annotations

import struct
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.vm import debian
from tests.vm.cache import digest, once
from tests.vm.faults import Fault
from tests.vm.guest import SUITE
from tests.vm.hardware import MIB
from tests.vm.machine import Machine

MOR = "MemoryOverwriteRequestControl"
GUID = uuid.UUID("e20939be-32d4-41be-a150-897f85d49829")

_FLASH = 2 * MIB
"""Variables first, then code, up to the end of the first 4 GiB of addresses."""

_FIRST = 0x64
"""Where the first variable stands: behind the heads of the volume and of the store."""

_HEADER = struct.Struct("<HBBIQ16sIII16s")
"""AUTHENTICATED_VARIABLE_HEADER: MdeModulePkg/Include/Guid/VariableFormat.h in EDK II."""

_START, _VALID = 0x55AA, 0x3F


@cache
def _parts() -> Path:
    """The folder with unpacked packages, and in it `vars`, the flash memory's first content."""

    def build(target: Path) -> None:
        archive = debian.Archive(target / "apt", SUITE)
        archive.unpack(["ovmf"], target)
        archive.unpack_with_dependencies(["swtpm"], target)
        flash = bytearray((target / "usr/share/OVMF/OVMF_VARS.fd").read_bytes())
        name = _encode(MOR)
        head = (_START, _VALID, 0, 7, 0, bytes(16), 0, len(name), 1, GUID.bytes_le)
        record = _HEADER.pack(*head) + name + b"\0"
        assert flash[_FIRST : _FIRST + len(record)] == b"\xff" * len(record)
        flash[_FIRST : _FIRST + len(record)] = record
        (target / "vars").write_bytes(flash)

    return once(f"firmware-{digest(SUITE, Path(__file__), Path(debian.__file__))}", build)


def _encode(name: str) -> bytes:
    return f"{name}\0".encode("utf-16-le")


@contextmanager
def uefi(flash: Path | None = None) -> Iterator[tuple[str, ...]]:
    """Run a TPM; give QEMU's arguments for one machine with UEFI and with that TPM.

    Its flash memory begins as another machine's has ended (`save_flash`), if there is one, but for
    the request, which would have it overwrite its memory, and boot twice. What is written to it
    goes with the machine.
    """
    libraries = _parts() / "usr/lib/x86_64-linux-gnu"
    with TemporaryDirectory() as folder:
        socket = Path(folder, "socket")
        tpm = subprocess.Popen(
            (
                *("setpriv", "--pdeathsig", "KILL", "--", _parts() / "usr/bin/swtpm", "socket"),
                *("--tpm2", "--tpmstate", f"dir={folder}", "--ctrl", f"type=unixio,path={socket}"),
            ),
            env={"LD_LIBRARY_PATH": f"{libraries}:{libraries}/swtpm"},
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(500):
                if socket.exists():
                    break
                time.sleep(0.01)
            variables = _parts() / "vars"
            if flash:
                variables, size = Path(folder, "vars"), variables.stat().st_size
                content = bytearray(flash.read_bytes()[:size])
                if at := _value_at(content, MOR):
                    content[at] = 0
                variables.write_bytes(content)
            yield _devices(socket, variables)
        finally:
            tpm.kill()
            tpm.wait()


def _devices(tpm: Path, variables: Path) -> tuple[str, ...]:
    drive = "if=pflash,format=raw"
    code = _parts() / "usr/share/OVMF/OVMF_CODE.secboot.fd"
    return (
        *("-machine", "q35,smm=on", "-global", "ICH9-LPC.disable_s3=1"),
        *("-global", "driver=cfi.pflash01,property=secure,value=on"),
        *("-drive", f"{drive},unit=0,readonly=on,file={code}"),
        *("-drive", f"{drive},unit=1,snapshot=on,file={variables}"),
        *("-chardev", f"socket,id=tpm,path={tpm}", "-tpmdev", "emulator,id=tpm,chardev=tpm"),
        *("-device", "tpm-tis,tpmdev=tpm"),
    )


def save_flash(target: Path, after: bytes) -> Fault:
    """Once `after` stands on the console, write the machine's flash memory to a file."""

    async def strike(machine: Machine) -> None:
        place = {"val": (4 << 30) - _FLASH, "size": _FLASH}
        await machine.qmp("pmemsave", filename=str(target), **place)

    return Fault(strike, after)


def variable(flash: Path, name: str) -> bytes | None:
    """The first byte of a variable as it stands in the flash memory; None if it is not there."""
    content = flash.read_bytes()
    at = _value_at(content, name)
    return content[at : at + 1] if at else None


def _value_at(content: bytes | bytearray, name: str) -> int:
    """Where the value of a variable begins; 0 if it is not there."""
    wanted = _encode(name)
    at = content.find(wanted)
    while at >= 0:
        head = content[max(at - _HEADER.size, 0) : at]
        if head[:3] == struct.pack("<HB", _START, _VALID):
            return at + len(wanted)
        at = content.find(wanted, at + 1)
    return 0
