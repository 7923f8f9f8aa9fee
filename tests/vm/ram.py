"""Counts what must not be there in a machine's RAM: keys, key schedules, plaintext."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hyperscan

from tests.vm import aes

_PIECE = 16 << 20
_LONGEST = 64


@dataclass(frozen=True)
class Copies:
    """How often each was found in the RAM. One live dm-crypt table holds some thirty of them."""

    keys: int
    halves: int
    round_keys: int
    plaintext: int

    @property
    def of_keys(self) -> int:
        """Everything from which the volume key, or a half of it, can be had."""
        return self.keys + self.halves + self.round_keys


def patterns(keys: Sequence[bytes], plaintext: bytes) -> list[tuple[str, bytes]]:
    """What to look for, each with the field of `Copies` that counts it.

    A volume key of 64 bytes is two AES-256 keys (aes-xts-plain64). The first two round keys of
    each are its own two pieces, which a count of the halves covers.
    """
    found = [("plaintext", plaintext)]
    for key in keys:
        found.append(("keys", key))
        for half in (key[:32], key[32:]):
            found.append(("halves", half))
            rounds = aes.encryption_round_keys(half)[2:] + aes.decryption_round_keys(half)
            found += [("round_keys", each) for each in rounds]
    return found


def search(memory: Iterator[bytes], wanted: Sequence[tuple[str, bytes]]) -> Copies:
    """Count all `wanted` at any alignment in `memory`, which comes in pieces, in order.

    Round keys that lie beside each other in RAM count one by one.
    """
    names = [name for name, _ in wanted]
    database = hyperscan.Database(mode=hyperscan.HS_MODE_STREAM)
    database.compile(
        expressions=[b"".join(b"\\x%02x" % byte for byte in text) for _, text in wanted],
        ids=list(range(len(wanted))),
        elements=len(wanted),
        flags=0,
    )
    counts = dict.fromkeys(("keys", "halves", "round_keys", "plaintext"), 0)

    def matched(identity: int, *_: object) -> None:
        counts[names[identity]] += 1

    with database.stream(match_event_handler=matched) as stream:
        for piece in memory:
            stream.scan(piece)
    return Copies(**counts)


def of_process(process: int, backing: Path) -> Iterator[bytes]:
    """The pages that `process` has mapped from the file `backing`, in order.

    A private mapping shows the process's own pages where it has written, the file's elsewhere.
    """
    found = False
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        if not line.endswith(f" {backing.resolve()}"):
            continue
        found = True
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        assert match
        start, end = (int(group, 16) for group in match.groups())
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            memory.seek(start)
            while start < end:
                piece = memory.read(min(_PIECE, end - start))
                start += len(piece)
                yield piece
    if not found:
        raise LookupError(f"process {process} has not mapped {backing}: no RAM was searched")
