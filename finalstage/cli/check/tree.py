"""Is the tree in memory: there, whole, as it would be staged now, and able to start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from finalstage.cli.check.readiness import (
    OK,
    PROBLEM,
    UNKNOWN,
    WARNING,
    Finding,
    Machine,
    hidden,
    some,
)
from finalstage.cli.config import PLACE
from finalstage.cli.problems import WrongError
from finalstage.cli.staged import closure, payload, staging
from finalstage.cli.staged.carried import MANIFEST, Carried
from finalstage.cli.staged.staging import SOURCE, USUAL
from finalstage.cli.staged.tree_owner import other_tree
from finalstage.mountinfo import Entry

STAGE = "finalstage stage"
MIB = 1 << 20


def look(machine: Machine) -> Iterator[Finding]:
    """Look at it, and at whether there is memory to stage it anew."""
    carried = machine.setup.carried
    if owner := other_tree(USUAL, machine.setup.configuration.options):
        found = (
            f"{USUAL} is left to {owner}, as systemd.shutdown-tree says; nobody calls finalstage"
        )
        remedy = f'set shutdown-tree = "finalstage" below [systemd] in {PLACE}, then {STAGE}'
        yield Finding("tree", PROBLEM, found, remedy)
        return
    entry = staging.mount_at(USUAL)
    if entry is None or entry.source != SOURCE:
        yield _not_staged(entry)
    else:
        yield from staged(USUAL, machine, "noexec" in entry.options.split(","))
    yield from _memory(carried)


def _not_staged(entry: Entry | None) -> Finding:
    if entry is not None:
        found = f"what is mounted at {USUAL} is not finalstage's: {entry.fstype} {entry.source}"
    elif (USUAL / "shutdown").exists():
        found = f"{USUAL} has a tree of shutdown that is not finalstage's"
    else:
        found = f"nothing is staged at {USUAL}"
    return Finding("tree", PROBLEM, found, STAGE)


def staged(root: Path, machine: Machine, noexec: bool) -> Iterator[Finding]:
    """Look at a tree that is mounted; start it only where all else is well."""
    try:
        found = list(_whole(root, machine.setup.carried, noexec))
    except payload.PayloadError as error:
        yield Finding("tree", UNKNOWN, f"nothing to compare {root} with: {error}", "run make dist")
        return
    current = _current(root, machine)
    if current.verdict != OK or found[0].verdict == OK:  # else it is not as it would be staged
        found.append(current)
    yield from found
    if not machine.as_root:
        yield hidden("start", "whether launcher and stage can be started")
        yield hidden(
            "closure", "whether programs that are carried find their libraries in the tree"
        )
    elif all(each.verdict == OK for each in found):
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield _starts(descriptor)
            yield _closed(descriptor, machine.setup.carried)
        finally:
            os.close(descriptor)


def _whole(root: Path, carried: Carried, noexec: bool) -> Iterator[Finding]:
    """Compare the tree with what this build has, and say whether it can be executed."""
    wrong = [line.partition(": ")[0] for line in payload.differences(root)]
    if noexec:
        found = f"{root} is mounted noexec, so nobody can execute what is staged there"
        yield Finding("tree", PROBLEM, found, STAGE)
    if wrong:
        found = f"{root} is not what this program stages: {some(wrong)}"
        yield Finding("tree", PROBLEM, found, STAGE)
    if not noexec and not wrong:
        paths = len(payload.read_manifest()) + len(carried.entries)
        size = (payload.tree_size() + carried.size) / MIB
        yield Finding("tree", OK, f"{root} holds all {paths} paths, {size:.1f} MiB")


def _current(root: Path, machine: Machine) -> Finding:
    """Compare what it carries with what was set up for this machine."""
    carried = machine.setup.carried
    if machine.unread:
        return hidden("current", "whether the tree carries what was set up")
    stale = carried.differences(root)
    if stale:
        which = [path for path in stale if path != MANIFEST] or ["it carries what is not set up"]
        found = f"the tree is older than the configuration or the hooks: {some(which)}"
        return Finding("current", PROBLEM, found, STAGE)
    count = len(carried.contents)
    what = f"with {count} files for this machine" if count else "and nothing has to be carried"
    return Finding("current", OK, f"the tree is as it would be staged now, {what}")


def _starts(root: int) -> Finding:
    try:
        staging.start_once(root)
    except (OSError, payload.PayloadError) as error:
        return Finding("start", PROBLEM, f"{error}", STAGE)
    return Finding("start", OK, "launcher and stage start, with the tree as their root")


def _closed(root: int, carried: Carried) -> Finding:
    """Ask ld.so in the tree for what programs that are carried need, and scripts' interpreters."""
    wrong = in_root(root, carried)
    if wrong:
        remedy = "name what is missing in hooks.carry, then finalstage stage"
        return Finding("closure", PROBLEM, f"not all is in the tree: {some(wrong)}", remedy)
    return Finding("closure", OK, "the stage, and what is carried, find all they need in the tree")


def in_root(root: int, carried: Carried) -> list[str]:
    """Return what programs that are carried do not find, in a process with a tree as its root."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.fchdir(root)
            os.chroot(".")
            os.write(theirs, "\n".join(_unmet(carried)).encode("utf-8", "backslashreplace"))
            status = 0
        finally:
            os._exit(status)  # whatever was raised: nothing of the parent's is to go on here
    os.close(theirs)
    with open(ours, encoding="utf-8") as pipe:
        said = pipe.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said if status == 0 else ["nobody could look"]


def _unmet(carried: Carried) -> Iterator[str]:
    for place, data in carried.contents.items():
        try:
            if not _is_program(data, carried.entries[place].mode):
                continue
            for need in closure.needs(Path("/", place), data):
                if not need.exists():
                    yield f"/{place} needs {need}"
        except WrongError as error:
            yield f"/{place}: {error}"


def _is_program(data: bytes, mode: int) -> bool:
    """Whether somebody executes it: a script, or an ELF file with an interpreter."""
    if data.startswith(closure.ELF):
        return bool(closure.segments(data)[0])
    return data.startswith(closure.SCRIPT) and bool(mode & 0o111)


def _memory(carried: Carried) -> Iterator[Finding]:
    """Where the tree is damaged when the machine goes down, it is staged anew."""
    available = staging.available_memory()
    try:
        needed = payload.tree_size() + carried.size + staging.SLACK
    except payload.PayloadError:
        return  # which was said above
    if available is None:
        yield Finding("memory", UNKNOWN, "the kernel does not tell how much memory is free")
        return
    words = f"to stage takes {needed / MIB:.0f} MiB, and {available / MIB:.0f} MiB are free"
    if available < needed:
        yield Finding("memory", WARNING, words, "free some memory")
    else:
        yield Finding("memory", OK, words)
