"""Nothing may panic the kernel any more: a panic leaves every key in memory."""

from __future__ import annotations

from finalstage.bounded import bind, together
from finalstage.layers import mount
from finalstage.world import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel
    from finalstage.stack import Stack

SETTINGS = (
    "kernel/hardlockup_panic", "kernel/hung_task_panic",
    "kernel/panic_on_io_nmi", "kernel/panic_on_oops", "kernel/panic_on_rcu_stall",
    "kernel/panic_on_warn", "kernel/softlockup_panic", "vm/panic_on_oom",
)  # fmt: skip
"""Documentation/admin-guide/sysctl/kernel.rst and vm.rst. A kernel has those it is built with."""

ANSWER_SECONDS = 1.0


def forbid(kernel: Kernel) -> list[str]:
    """Have the kernel go on after what it was told to panic at; return what failed, in words."""
    problems = []
    for name in SETTINGS:
        path = f"/proc/sys/{name}"
        try:
            if int(kernel.read(path)):
                kernel.write(path, b"0\n")
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{name} may panic: {describe(error)}")
    return problems


def defuse(kernel: Kernel, stack: Stack, until: float) -> list[str]:
    """Let no file system panic at an I/O error, whoever asked it to; return what failed."""
    layers = [layer for layer in stack.layers if isinstance(layer, mount.Mount) and layer.panics]
    calls = {layer.title: bind(mount.defuse, kernel, layer) for layer in layers}
    found = together(kernel, calls, ANSWER_SECONDS, until)
    return [f"{name} may panic at an I/O error: {error}" for name, error in found.items() if error]
