"""What becomes of keys and plaintext in memory: watchdog, init_on_free, firmware, kexec."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from finalstage import efi, mor, scrub
from finalstage.cli.check.kernel import is_there, said
from finalstage.cli.check.readiness import OK, UNKNOWN, WARNING, Finding, Machine, hidden
from finalstage.cli.config import PLACE
from finalstage.kernel import Kernel
from finalstage.processes import all_processes
from finalstage.world import describe, text

WATCHDOGS = "/sys/class/watchdog"
FIRMWARE = "/sys/firmware/efi"
DEFAULT_ON = b"CONFIG_INIT_ON_FREE_DEFAULT_ON=y"
CLEARS = "the kernel clears all memory that it frees"


def look(machine: Machine) -> Iterator[Finding]:
    """Look at all four."""
    yield _watchdog(machine)
    yield _init_on_free(machine)
    yield _firmware(machine)
    yield _kexec(machine)


def _watchdog(machine: Machine) -> Finding:
    """Look for one, and for who has it: Documentation/ABI/testing/sysfs-class-watchdog."""
    name, kernel = "watchdog", machine.kernel
    if not machine.setup.configuration.options.watchdog:
        found = "the configuration says not to use any: a machine that hangs stays so"
        return Finding(name, WARNING, found, f"remove watchdog = false from {PLACE}")
    try:
        devices = sorted(kernel.listdir(WATCHDOGS))
    except OSError:
        devices = []
    if not devices:
        found = "there is none: a machine on which all hangs at shutdown stays so"
        return Finding(name, WARNING, found, "load the driver of the chipset's, or softdog")
    device = devices[0]
    place = f"{WATCHDOGS}/{device}"
    words = f"{device} ({said(kernel, f'{place}/identity') or 'without a name'})"
    state = said(kernel, f"{place}/state")
    if not machine.as_root:
        return Finding(name, OK, f"{words} is {state or 'there'}")
    holders = _holders(kernel)
    if holders:
        return Finding(name, OK, f"{words} is fed by {', '.join(holders)}, and then by finalstage")
    return Finding(name, OK, f"{words} is there, and nobody has it open")


def _holders(kernel: Kernel) -> list[str]:
    """Return the processes that have a watchdog open."""
    found = []
    for process in all_processes(kernel):
        base = f"/proc/{process.pid}/fd"
        try:
            links = [kernel.readlink(f"{base}/{number}") for number in kernel.listdir(base)]
        except OSError:
            continue  # it has just ended
        if any(link.startswith("/dev/watchdog") for link in links):
            found.append(process.title)
    return found


def _init_on_free(machine: Machine) -> Finding:
    """Whether the kernel clears what it frees: by its command line, its log, how it was built."""
    name, kernel = "init_on_free", machine.kernel
    if scrub.init_on_free(kernel):
        return Finding(name, OK, CLEARS)
    if "init_on_free=" not in said(kernel, "/proc/cmdline"):
        built = _kernel_configuration(kernel)
        if DEFAULT_ON in built:
            return Finding(name, OK, CLEARS)
        if not built and not machine.as_root:
            return hidden(name, "whether the kernel clears what it frees")
    found = "freed memory keeps its content until finalstage overwrites it at the end"
    return Finding(name, WARNING, found, "init_on_free=1 on the kernel's command line")


def _kernel_configuration(kernel: Kernel) -> bytes:
    """Return what the kernel was built with, as far as that can be read."""
    try:
        return gzip.decompress(kernel.read("/proc/config.gz"))
    except (OSError, EOFError):
        pass  # it does not carry it along
    try:
        return kernel.read(f"/boot/config-{text(kernel, '/proc/sys/kernel/osrelease')}")
    except OSError:
        return b""


def _firmware(machine: Machine) -> Finding:
    """Whether the firmware would overwrite memory when it is asked to."""
    name, kernel = "firmware", machine.kernel
    if not machine.setup.configuration.options.firmware_scrub:
        return Finding(name, OK, "the configuration says not to ask it to overwrite memory")
    if not is_there(kernel, FIRMWARE):
        return Finding(name, OK, "no UEFI, which could be asked to overwrite memory")
    try:
        variables = kernel.listdir(efi.VARIABLES)
    except OSError as error:
        return Finding(
            name, UNKNOWN, f"its variables cannot be seen: {describe(error)}", "use sudo"
        )
    if not variables:
        remedy = f"mount -t efivarfs efivarfs {efi.VARIABLES}"
        return Finding(name, UNKNOWN, "its variables are not mounted", remedy)
    if mor.NAME in variables:
        return Finding(name, OK, "it will be asked to overwrite memory before it starts again")
    found = "it knows no request to overwrite memory"
    return Finding(name, WARNING, found, "switch on the TPM in its setup, or update it")


def _kexec(machine: Machine) -> Finding:
    """Whether the next kernel may come without memory being cleared on the way."""
    name, kernel = "kexec", machine.kernel
    loaded = said(kernel, "/sys/kernel/kexec_loaded") == "1"
    stays = machine.setup.configuration.options.key_left == "go-on"
    if loaded and stays:
        found = "a kernel is loaded: memory stays as it is where it is started, and so would a key"
        return Finding(name, WARNING, found, f'kexec -u; or key-left = "poweroff" in {PLACE}')
    return Finding(name, OK, "a kernel is loaded" if loaded else "no kernel is loaded")
