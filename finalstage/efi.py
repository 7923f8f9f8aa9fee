"""Variables of the firmware, where it is UEFI and the kernel shows them.

Source: Documentation/filesystems/efivarfs.rst.
"""

from __future__ import annotations

from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

VARIABLES = "/sys/firmware/efi/efivars"

NON_VOLATILE, BOOT_SERVICE, RUNTIME = 1, 2, 4
ATTRIBUTES = bytes((NON_VOLATILE | BOOT_SERVICE | RUNTIME, 0, 0, 0))
"""Attributes of a variable: UEFI specification, GetVariable(). They stand before its value, in
four bytes."""


def are_there(kernel: Kernel) -> bool:
    """Whether there are variables; they are mounted if need be. OSError if that cannot be told."""
    try:
        if not kernel.listdir(VARIABLES):
            kernel.mount_api("efivarfs", VARIABLES)
    except OSError as error:
        if is_missing(error):
            return False
        raise
    return True


def is_missing(error: OSError) -> bool:
    """Whether it says that there is no UEFI, a kernel without efivarfs, or no such variable."""
    return describe(error) in ("not there", "no such device")


def read(kernel: Kernel, name: str) -> bytes | None:
    """Return a variable with its attributes, or None if there is none of this name."""
    try:
        return kernel.read(f"{VARIABLES}/{name}")
    except OSError as error:
        if is_missing(error):
            return None
        raise


def change(kernel: Kernel, name: str, value: bytes) -> None:
    """Give a variable that is there another value. OSError if it is not."""
    path = f"{VARIABLES}/{name}"
    kernel.make_mutable(path)
    kernel.write(path, ATTRIBUTES + value)


def store(kernel: Kernel, name: str, value: bytes) -> None:
    """Give a variable a value, whether it is there or not."""
    try:
        change(kernel, name, value)
    except FileNotFoundError:
        kernel.create(f"{VARIABLES}/{name}", ATTRIBUTES + value)
