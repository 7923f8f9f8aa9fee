"""How many system calls it takes to go down, phase by phase.

The guest's kernel writes a line to its log at each system call of any process, threads and helpers
included (`tp_printk`, Documentation/admin-guide/kernel-parameters.txt), beside the records that
finalstage leaves there. So they stand in the machine's RAM in the order in which they happened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tests.bench.contestants import DRACUT, FINALSTAGE_DIRECT, ORACLE, Contestant
from tests.bench.figures import START
from tests.bench.run import IN_LOG, RECORD, measure
from tests.bench.stacks import MAIN_TRIAL, TRIALS, Trial
from tests.vm.stacks import on

CALL = rb"sys_enter: NR (?P<number>\d+) "
MARK = rb"bench: (?P<mark>\w+)"
PATTERN = b"%s|%s" % (RECORD, IN_LOG + b"(?:%s|%s)" % (CALL, MARK))
CONTROL = 1000
"""Bytes that a program copies one by one while calls are counted too, by two calls each."""

BEGIN = f"""
echo 1 >/proc/sys/kernel/printk
mkdir -p /run/tracing
mount -t tracefs tracing /run/tracing
echo 1 >/run/tracing/events/raw_syscalls/sys_enter/enable
umount /run/tracing
echo 'bench: control' >/dev/kmsg
dd if=/dev/zero of=/dev/null bs=1 count={CONTROL} 2>/dev/null"""
"""Lines at every call to a serial line would take minutes: the console gets none."""

AT_LAST = "echo 'bench: begin' >/dev/kmsg"
"""What PID 1 does before it becomes something else."""

COMMAND_LINE = "tp_printk log_buf_len=32M init_on_free=0"
"""The last one: who wants to know it has else to read the log, call by call, and never gets to its
end while each call adds a line."""

COUNTED = ("main", "400 mounts")
COUNTERS = (FINALSTAGE_DIRECT, DRACUT, ORACLE)


@dataclass(frozen=True)
class Counts:
    """System calls, in all and by phase, if it has phases."""

    total: int
    phases: Mapping[str, int]


def count(trial: Trial, contestant: Contestant) -> Counts:
    """Let a contestant go down while its calls are counted. RuntimeError if they are not."""
    hardware = replace(trial.stack.hardware, memory=1024, command_line="")
    stack = on(replace(trial.stack, hardware=hardware), command_line=COMMAND_LINE)
    counted = replace(trial, stack=stack, before=f"{trial.before}\n{BEGIN}")
    marked = replace(contestant, path=f"{AT_LAST}; {contestant.path}")
    return tally(measure(counted, marked, PATTERN).found)


def tally(found: Iterable[bytes]) -> Counts:
    """Count what stands in the log. RuntimeError if the control is not what it should be."""
    control, phase = 0, ""
    counting = False
    phases: dict[str, int] = {}
    for line in found:
        if line == b"bench: control":
            control, counting, phases, phase = 0, False, {}, START
        elif line == b"bench: begin":
            counting = True
        elif line.startswith(b"finalstage: "):
            phase = _phase(line) or phase
        elif phase and line.startswith(b"sys_enter"):
            if counting:
                phases[phase] = phases.get(phase, 0) + 1
            else:
                control += 1
    if not 2 * CONTROL <= control <= 3 * CONTROL:
        raise RuntimeError(f"{control} calls were seen where {CONTROL} bytes were copied")
    return Counts(sum(phases.values()), phases)


def _phase(line: bytes) -> str:
    """The phase that begins with a record; none for any other."""
    match = re.fullmatch(rb"finalstage: (\{.*\})", line, re.DOTALL)
    record = json.loads(match[1]) if match else {}
    return str(record["phase"]) if record.get("event") == "phase" else ""


def trials() -> list[Trial]:
    """The trials in which calls are counted."""
    return [trial for trial in (MAIN_TRIAL, *TRIALS[1:]) if trial.name in COUNTED]
