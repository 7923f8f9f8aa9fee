"""Plaintext and keys in memory that nobody uses any more: overwritten before the machine goes down.

The kernel does not clear what it frees, unless it was built or booted with init_on_free. So the
caches are dropped, and all that is free then is taken and cleared: finalstage/launcher/scrub.c.
"""

from __future__ import annotations

from finalstage import keys
from finalstage.bounded import bind, bounded, together
from finalstage.lines import Line
from finalstage.processes import all_processes
from finalstage.world import describe, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from finalstage.kernel import Kernel

AUTO, ALWAYS, NEVER = "auto", "always", "never"

LONGEST = 20.0
"""Seconds that overwriting may take: some 100 GB a node, of what memory is made of today."""

RESERVE = 3.0
"""Seconds before the end at which overwriting must be over."""

DROP_SECONDS = 5.0
MIB = 1 << 20

TUNING = (
    # Running out of memory is on purpose, and must kill the workers, each when it asks for more.
    ("/proc/sys/vm/panic_on_oom", "0"),
    ("/proc/sys/vm/oom_kill_allocating_task", "1"),
    ("/proc/sys/vm/oom_dump_tasks", "0"),
    ("/proc/sys/vm/overcommit_memory", "1"),
    # Huge pages are cleared fastest; but nobody waits for them to be made.
    ("/sys/kernel/mm/transparent_hugepage/defrag", "never"),
    ("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always"),
    # What the kernel keeps back from processes: for DMA, for interrupts, for reclaim.
    ("/proc/sys/vm/nr_hugepages", "0"),
    ("/proc/sys/vm/lowmem_reserve_ratio", "0 0 0 0 0"),
    ("/proc/sys/vm/watermark_boost_factor", "0"),
    ("/proc/sys/vm/min_free_kbytes", "0"),
)
"""Settings while memory is overwritten. Source: Documentation/admin-guide/sysctl/vm.rst."""

TUNE_SECONDS = 2.0
OFFERED = "1000"
"""The score of who wants to be ended first, OOM_SCORE_ADJ_MAX in linux/oom.h: what the launcher
has begun with, and goes on with whenever something is free."""

MUST = "/proc/sys/vm/panic_on_oom"
PRINTK = "/proc/sys/kernel/printk"


def scrub(kernel: Kernel, until: float, mode: str, had_encryption: bool) -> list[Line]:
    """Drop all caches and overwrite all free memory; never raises, and returns by `until`.

    To be called when all is closed and sealed, and all keys are dropped. `had_encryption` tells
    what was seen; what was closed before we came is seen by `encrypts`.
    """
    wanted = mode == ALWAYS or (mode == AUTO and (had_encryption or encrypts(kernel)))
    calls = {"wait for freed keys": bind(keys.let_go, kernel, until)}
    if wanted:  # to drop the caches waits for a file system whose unmounting hangs
        calls["drop the caches"] = bind(drop_caches, kernel)
        calls["free empty slabs"] = bind(shrink_slabs, kernel)
    errors = together(kernel, calls, DROP_SECONDS, until)
    lines = [Line(f"cannot {what}: {why}", bad=True) for what, why in errors.items() if why]
    if not wanted:
        return lines
    if init_on_free(kernel):
        return [*lines, Line("memory needs no overwriting: the kernel clears what it frees")]
    return [*lines, overwrite(kernel, min(until - RESERVE, kernel.now() + LONGEST))]


def encrypts(kernel: Kernel) -> bool:
    """Whether dm-crypt is loaded: the kernel does that when it is needed for the first time.

    systemd-shutdown may have closed all encrypted devices that are not below root before it
    handed over. Where dm-crypt is not a module, this tells nothing, and is false.
    """
    try:
        return bool(text(kernel, "/sys/module/dm_crypt/initstate"))
    except OSError:
        return False


def drop_caches(kernel: Kernel) -> None:
    """Free all pages, dentries and inodes that are only kept in case of need.

    Source: Documentation/admin-guide/sysctl/vm.rst.
    """
    kernel.write("/proc/sys/vm/drop_caches", b"3")


def shrink_slabs(kernel: Kernel) -> None:
    """Give back slabs that hold no object any more: Documentation/ABI/testing/sysfs-kernel-slab."""
    try:
        names = kernel.listdir("/sys/kernel/slab")
    except OSError:
        return  # a kernel with another allocator
    for name in names:
        try:
            kernel.write(f"/sys/kernel/slab/{name}/shrink", b"1")
        except OSError:
            continue  # it has just gone


def init_on_free(kernel: Kernel) -> bool:
    """Whether the kernel clears what it frees; false if that cannot be seen.

    The command line decides where it says so; else what the kernel was built with, which it
    only tells in its log while it boots: report_meminit() in mm/page_alloc.c, "mem auto-init".
    """
    try:
        options = text(kernel, "/proc/cmdline").split()
    except OSError:
        options = []
    said = [option.partition("=")[2] for option in options if option.startswith("init_on_free=")]
    if said:
        return said[-1] in ("1", "on", "y", "Y", "yes")
    try:
        log = kernel.kernel_log()
    except OSError:
        return False
    at = log.rfind(b"mem auto-init:")
    return at >= 0 and b"heap free:on" in log[at : at + 200].partition(b"\n")[0]


def overwrite(kernel: Kernel, until: float) -> Line:
    """Have all free memory overwritten, and say how much was left of it: the launcher has begun
    when it started, scrub_early() in finalstage/launcher/scrub.c."""
    seconds = until - kernel.now()
    if seconds <= 0:
        return Line("MEMORY IS NOT OVERWRITTEN, PLAINTEXT MAY REMAIN: no time is left", bad=True)
    started = kernel.now()
    before: list[tuple[str, str]] = []
    danger = bounded(kernel, "tune", bind(tune, kernel, before), TUNE_SECONDS, until)
    try:
        danger = danger or dangerous(kernel)
    except OSError as error:
        danger = describe(error)
    if danger:
        restore(kernel, before)
        return failed(danger)
    call = kernel.start("overwrite memory", lambda: kernel.scrub_memory(seconds))
    kernel.wait((call,), seconds + RESERVE / 2)
    took = kernel.now() - started
    restore(kernel, before)
    if not call.done:
        return failed(f"no answer in {took:.0f} s")
    if call.error or not isinstance(call.value, tuple):
        return failed(describe(call.error) if call.error else "no result")
    complete, size = call.value
    last = f"{size // MIB} MiB in {took:.2f} s"
    if complete:
        return Line(f"overwrote all free memory, at last {last}")
    words = f"overwrote {last}, and there was no time for more: PLAINTEXT MAY REMAIN"
    return Line(words, bad=True)


def failed(reason: str) -> Line:
    """Say that it did not work."""
    return Line(f"MEMORY IS NOT OVERWRITTEN, PLAINTEXT MAY REMAIN: {reason}", bad=True)


def dangerous(kernel: Kernel) -> str:
    """Return why memory must not be exhausted now, or an empty string."""
    if text(kernel, MUST) != "0":
        return "the kernel would panic when memory runs out"
    if text(kernel, own_score(kernel)) != "-1000":
        return "the stage could be killed when memory runs out"
    return ""


def own_score(kernel: Kernel) -> str:
    """Return the file that says how likely we are killed when memory runs out."""
    return f"/proc/{kernel.pid}/oom_score_adj"


def tune(kernel: Kernel, before: list[tuple[str, str]]) -> None:
    """Let all that is free be had; note how it was before. What fails costs a few pages."""
    spare_all(kernel, before)
    # A killed worker is no news, and a serial line is slow.
    for path, value in ((PRINTK, "1"), *TUNING):
        try:
            old = text(kernel, path)
            kernel.write(path, value.encode())
        except OSError:
            continue
        if path.startswith("/proc/sys/") and path != "/proc/sys/vm/nr_hugepages":
            before.append((path, old))


def spare_all(kernel: Kernel, before: list[tuple[str, str]]) -> None:
    """Let memory that runs out end no process that is there; note how likely that was before.

    Else whoever asks for memory at the wrong moment would be killed, the stage too. Who has offered
    himself is left so: the kernel panics where one asks whom it must not end, and finds nobody.
    """
    for process in all_processes(kernel):
        path = f"/proc/{process.pid}/oom_score_adj"
        try:
            old = text(kernel, path)
            if old == OFFERED:
                continue
            kernel.write(path, b"-1000")
        except OSError:
            continue  # it has just ended
        before.append((path, old))


def restore(kernel: Kernel, before: list[tuple[str, str]]) -> None:
    """Put settings back, so that reboot(2) has the memory that it may need."""
    for path, value in reversed(before):
        try:
            kernel.write(path, value.encode())
        except OSError:
            continue
