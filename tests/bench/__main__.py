"""`python -m tests.bench [PART…] [--only WORD] [--rounds N]`: measure, and show the tables.

The parts are trials, widths, start, planning, sizes and calls; without any, all of them. What is
not measured again stays in .build/bench as it was.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tests.bench import calls, figures, planning, report, start, width
from tests.bench.contestants import CONTESTANTS, FINALSTAGE_DIRECT, Contestant, dracut
from tests.bench.results import Counted, Going, Planned, Results, load, store
from tests.bench.run import Measured, measure
from tests.bench.stacks import TRIALS, Trial
from tests.vm.cache import PROJECT
from tests.vm.guest import SUITE, guest
from tests.vm.hardware import qemu_version

ROUNDS = 3
LONG_SECONDS = 40.0
"""A contestant that takes longer is measured once in a trial."""

PAGE = 4096


def main(arguments: list[str]) -> int:
    """Measure what is asked for, and print all tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--only", default="", help="trials whose names have this word")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if not (PROJECT / "dist/tree/shutdown").exists():
        parser.error("dist/tree is missing: run make dist")
    results = load()
    results["where"] = where()
    for part in options.parts or PARTS:
        began = time.monotonic()
        PARTS[part](results, options.only, options.rounds)
        results.setdefault("minutes", {})[part] = (time.monotonic() - began) / 60
        store(results)
    report.draw(results)
    Console(width=140, no_color=True, highlight=False).print(report.plain(results), markup=False)
    return 0


def where() -> dict[str, str]:
    """What it is measured on."""
    return {
        "machine": f"QEMU's software emulation, {os.cpu_count()} processors",
        "qemu": qemu_version(),
        "python": platform.python_version(),
        "kernel": kernel_version(guest().kernel.read_bytes()),
    }


def kernel_version(image: bytes) -> str:
    """What a kernel calls itself: kernel_version in Documentation/x86/boot.rst."""
    begin = 0x200 + int.from_bytes(image[0x20E:0x210], "little")
    return image[begin:].split(b" ", 1)[0].decode()


def say(words: str) -> None:
    """One line of progress."""
    print(f"bench: {words}", flush=True)


def trials(results: Results, only: str, rounds: int) -> None:
    """Every contestant in every trial, one after the other, again and again."""
    for trial in TRIALS:
        if only in trial.name:
            results.setdefault("goings", {})[trial.name] = compete(trial, results, rounds)
            store(results)


def compete(trial: Trial, results: Results, rounds: int) -> dict[str, list[Going]]:
    """The contestants of one trial, alternating, each time beginning with another one."""
    those = [each for each in CONTESTANTS if each.takes_part(trial)]
    found: dict[str, list[Going]] = {each.name: [] for each in those}
    for number in range(rounds):
        shift = number % len(those)
        for contestant in (*those[shift:], *those[:shift]):
            goings = found[contestant.name]
            if goings and goings[0]["seconds"] > LONG_SECONDS:
                continue
            measured = measure(trial, contestant)
            goings.append(going(contestant, measured))
            if contestant is FINALSTAGE_DIRECT:
                results.setdefault("timelines", {})[trial.name] = {
                    "offset": measured.offset,
                    "seconds": measured.seconds,
                    "records": measured.records,
                }
            say(f"{trial.name}, {contestant.name}: {measured.seconds:.2f} s")
    return found


def widths(results: Results, only: str, rounds: int) -> None:
    """Closing by how much of it is done at once, alternating. The best of two rounds counts."""
    found: dict[str, dict[str, float]] = {}
    for trial in width.trials():
        seconds = found[width.KINDS[trial.name]] = {}
        for _ in range(min(rounds, 2)):
            for many in width.WIDTHS:
                took = width.closing(trial, many)
                seconds[str(many)] = min(took, seconds.get(str(many), took))
                say(f"{trial.name}, {many} at once: {took:.2f} s")
    results["widths"] = found


def going(contestant: Contestant, measured: Measured) -> Going:
    """What is kept of one machine going down."""
    phases = {}
    if contestant is FINALSTAGE_DIRECT:
        phases = figures.spans(measured.records, measured.offset, measured.seconds)
    return {
        "seconds": measured.seconds,
        "first_line": measured.first_line,
        "phases": phases,
        "peak_kib": measured.peak_kib,
    }


def starts(results: Results, only: str, rounds: int) -> None:
    """The stage and the program that only prints, alternating; and what the stage imports."""
    found: dict[str, dict[str, list[float]]] = {}
    for how in ("cold", "warm"):
        found[how] = {}
        for _ in range(rounds):
            for starter in start.starters():
                seconds = start.first_line(starter, how == "warm")
                found[how].setdefault(starter.name, []).append(seconds)
                say(f"first line of {starter.name}, {how}: {seconds:.3f} s")
    results["starts"] = found
    results["imports"] = [
        {"module": each.module, "microseconds": each.microseconds} for each in start.imports()
    ]


def plans(results: Results, only: str, rounds: int) -> None:
    """Scanning and planning of machines of three sizes, here. The best of some rounds counts:
    whatever else this machine does only adds to it."""
    found: dict[str, list[Planned]] = {}
    for machine in planning.MACHINES:
        found[machine] = []
        for layers in planning.SIZES:
            costs = [planning.cost(machine, layers) for _ in range(rounds)]
            best = min(costs, key=lambda each: each.scan + each.plan)
            found[machine].append(
                {
                    "layers": layers,
                    "scan": best.scan,
                    "plan": best.plan,
                    "mebibytes": best.mebibytes,
                }
            )
            say(f"{machine}, {layers:,} layers: {best.scan + best.plan:.3f} s")
    results["planning"] = found


def sizes(results: Results, only: str, rounds: int) -> None:
    """What the trees take in a tmpfs, and the archive on a disk."""
    results["sizes"] = {
        "finalstage's tree": in_tmpfs(PROJECT / "dist/tree"),
        "as cpio.zst": (PROJECT / "dist/finalstage-tree.cpio.zst").stat().st_size,
        "dracut's tree": in_tmpfs(dracut(SUITE)),
    }


def in_tmpfs(tree: Path) -> int:
    """Bytes that the files of a tree take in a tmpfs: whole pages, each inode once."""
    stats = {
        (each.lstat().st_dev, each.lstat().st_ino): each.lstat().st_size
        for each in tree.rglob("*")
        if each.is_file() and not each.is_symlink()
    }
    return sum(-(-size // PAGE) * PAGE for size in stats.values())


def count(results: Results, only: str, rounds: int) -> None:
    """The system calls of some contestants in some trials."""
    found: dict[str, dict[str, Counted]] = {}
    for trial in calls.trials():
        found[trial.name] = {}
        for contestant in calls.COUNTERS:
            counts = calls.count(trial, contestant)
            found[trial.name][contestant.name] = {
                "total": counts.total,
                "phases": dict(counts.phases),
            }
            say(f"{trial.name}, {contestant.name}: {counts.total:,} system calls")
    results["calls"] = found


PARTS: dict[str, Callable[[Results, str, int], None]] = {
    "trials": trials,
    "widths": widths,
    "start": starts,
    "planning": plans,
    "sizes": sizes,
    "calls": count,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
