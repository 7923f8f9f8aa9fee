"""Every way down: a real kernel, real layers, and nothing left of them in the end."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.part import seldom
from tests.vm.rows import (
    DIRECT,
    DIRECT_AS_INIT,
    DIRTY,
    DIRTY_64M,
    NO_PROC,
    NO_SYS,
    RETURN,
    RETURN_SOON,
    STUBBORN,
    Row,
)
from tests.vm.stacks import (
    LUKS,
    LVM,
    MAIN,
    MAIN_BUSY,
    MD,
    PLAIN,
    STRIPED,
    SUMS,
    WITHOUT_AES,
    on,
    rooted,
)

DIRTY_SUMS = (*DIRTY, File("/sums/new", 2 << 20), File("/tags/new", 2 << 20, secret=True))

ROWS = [
    Row("main, direct", MAIN, DIRECT, "poweroff"),
    Row("main, direct, reboot", MAIN, DIRECT, "reboot"),
    *seldom(Row("main, direct, halt", MAIN, DIRECT, "halt")),
    Row("main, return", MAIN, RETURN, "poweroff"),
    *seldom(
        Row("main, return, reboot", MAIN, RETURN, "reboot"),
        Row("main, return, halt", MAIN, RETURN, "halt"),
        Row("main, kexec without a kernel", MAIN, DIRECT, "kexec", ends_by="reboot"),
        Row("main, exit", MAIN, DIRECT, "exit", ends_by="poweroff"),
    ),
    Row("main, unknown verb and option", MAIN, f"{DIRECT} --new=1", "rest", ends_by="poweroff"),
    *seldom(
        Row("main, one processor", on(MAIN, processors=1), DIRECT),
        Row("main, two processors", on(MAIN, processors=2), DIRECT),
        Row("main, four processors", on(MAIN, processors=4), DIRECT),
        Row("main, no AES instructions", WITHOUT_AES, DIRECT),
    ),
    Row("swap and nested mounts, direct", MAIN_BUSY, DIRECT),
    *seldom(Row("swap and nested mounts, return", MAIN_BUSY, RETURN)),
    Row("LUKS, direct", LUKS, DIRECT),
    *seldom(Row("LVM, direct", LVM, DIRECT), Row("striped LVM, direct", STRIPED, DIRECT)),
    Row("keyed sums, direct", SUMS, DIRECT, files=DIRTY_SUMS),
    *seldom(Row("md, direct", MD, DIRECT)),
    Row("plain, direct", PLAIN, DIRECT),
    Row("a process ignores TERM, direct", MAIN, DIRECT, before=(STUBBORN,)),
    *seldom(
        Row("64 MiB dirty, direct", MAIN, DIRECT, files=DIRTY_64M),
        Row("no /proc", MAIN, DIRECT, before=(NO_PROC,)),
        Row("no /sys", MAIN, DIRECT, before=(NO_SYS,)),
    ),
    Row("neither /proc nor /sys", MAIN, DIRECT, before=(NO_PROC, NO_SYS)),
    *seldom(
        Row("argv[0] is init", MAIN, DIRECT_AS_INIT),
        Row("root with a newer glibc, direct", rooted(MAIN, "newer-glibc"), DIRECT),
    ),
    Row("root with musl", rooted(MAIN, "musl"), DIRECT),
    *seldom(
        Row("root without any libc", rooted(MAIN, "nolibc"), DIRECT),
        Row("root without any libc, no /proc", rooted(MAIN, "nolibc"), DIRECT, before=(NO_PROC,)),
    ),
    # What is below is closed alike, whoever has closed a part of it before.
    *seldom(
        Row("LUKS, return", LUKS, RETURN),
        Row("LVM, return", LVM, RETURN),
        Row("keyed sums, return", SUMS, RETURN, files=DIRTY_SUMS),
        Row("md, return", MD, RETURN),
        Row("plain, return", PLAIN, RETURN),
        Row("a process ignores TERM, return", MAIN, RETURN_SOON, before=(STUBBORN,)),
        Row("64 MiB dirty, return", MAIN, RETURN, files=DIRTY_64M),
        Row("root with a newer glibc, return", rooted(MAIN, "newer-glibc"), RETURN),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_closes_everything(happen: Happen, row: Row) -> None:
    outcome = happen(row)
    assert not outcome.problems, f"see {row.folder}"
