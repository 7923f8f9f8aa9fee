"""Counts what must not be there in a machine's RAM: keys, key schedules, plaintext."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import hyperscan

from tests.vm import aes, sha256

_PIECE = 16 << 20


@dataclass(frozen=True)
class Copies:
    """How often each was found in the RAM. One live dm-crypt table holds some thirty of them."""

    keys: int = 0
    halves: int = 0
    round_keys: int = 0
    mac_keys: int = 0
    mac_states: int = 0
    texts: int = 0
    plaintext: int = 0

    @property
    def of_keys(self) -> int:
        """Everything from which a key, or a half of it, can be had, or what stands for it."""
        of_macs = self.mac_keys + self.mac_states
        return self.keys + self.halves + self.round_keys + of_macs + self.texts


def patterns(
    keys: Sequence[bytes],
    plaintext: bytes,
    mac_keys: Sequence[bytes] = (),
    unwritten: Sequence[bytes] = (),
) -> list[tuple[str, bytes]]:
    """What to look for, each with the field of `Copies` that counts it.

    A volume key of 64 bytes is two AES-256 keys (aes-xts-plain64). The first two round keys of
    each are its own two pieces, which a count of the halves covers. Of a key for HMAC-SHA256 the
    kernel keeps two states, with which every sum can be forged, as well as with the key.

    Keys that are `unwritten` no guest gets as text: only what asks the device mapper for a table
    makes hexadecimal digits of them. Of others such text says nothing, they came as that.
    """
    found = [("plaintext", plaintext)]
    for key in keys:
        found.append(("keys", key))
        for half in _halves(key):
            found.append(("halves", half))
            rounds = aes.encryption_round_keys(half)[2:] + aes.decryption_round_keys(half)
            found += [("round_keys", each) for each in rounds]
    for key in mac_keys:
        found.append(("mac_keys", key))
        found += [("mac_states", each) for each in sha256.hmac_states(key)]
    found += [("texts", half.hex().encode()) for key in unwritten for half in _halves(key)]
    return found


def _halves(key: bytes) -> tuple[bytes, bytes]:
    return key[:32], key[32:]


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
    counts = dict.fromkeys(names, 0)

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
