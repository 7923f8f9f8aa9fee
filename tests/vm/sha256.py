"""What a kernel that computes HMAC-SHA256 keeps of the key: two states of SHA-256.

FIPS 180-4, sections 4.2.2 and 6.2.2; RFC 2104. hmac_setkey() in crypto/hmac.c hashes the key with
each of the two paddings, and keeps the state after that one block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count, islice
from math import isqrt

BLOCK = 64
_INNER, _OUTER = 0x36, 0x5C
_MASK = 0xFFFFFFFF


def _primes() -> Iterator[int]:
    return (number for number in count(2) if all(number % i for i in range(2, isqrt(number) + 1)))


def _cube_root(number: int) -> int:
    """The largest integer of which the cube is not above `number`."""
    root = 1 << -(-number.bit_length() // 3)
    while root**3 > number:
        root = (2 * root + number // root**2) // 3
    return root


# The first 32 bits of the fractional parts of the primes' square and cube roots.
START = tuple(isqrt(prime << 64) & _MASK for prime in islice(_primes(), 8))
_ROUNDS = tuple(_cube_root(prime << 96) & _MASK for prime in islice(_primes(), 64))


def _rotated(word: int, by: int) -> int:
    return (word >> by | word << 32 - by) & _MASK


def compressed(block: bytes, state: tuple[int, ...] = START) -> tuple[int, ...]:
    """The state after one more block of 64 bytes."""
    words = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        early, late = words[i - 15], words[i - 2]
        small = _rotated(early, 7) ^ _rotated(early, 18) ^ early >> 3
        large = _rotated(late, 17) ^ _rotated(late, 19) ^ late >> 10
        words.append((words[i - 16] + small + words[i - 7] + large) & _MASK)
    a, b, c, d, e, f, g, h = state
    for constant, word in zip(_ROUNDS, words, strict=True):
        choice, majority = e & f ^ ~e & g, a & b ^ a & c ^ b & c
        first = h + (_rotated(e, 6) ^ _rotated(e, 11) ^ _rotated(e, 25)) + choice + constant + word
        second = (_rotated(a, 2) ^ _rotated(a, 13) ^ _rotated(a, 22)) + majority
        a, b, c, d, e, f, g, h = (first + second) & _MASK, a, b, c, (d + first) & _MASK, e, f, g
    return tuple(
        (old + new) & _MASK for old, new in zip(state, (a, b, c, d, e, f, g, h), strict=True)
    )


def hmac_states(key: bytes) -> list[bytes]:
    """All that HMAC-SHA256 makes of a key of at most 64 bytes, 32 bytes each.

    The states of the inner and the outer hash as words of a little-endian machine, and the key
    with each padding, of which they are made.
    """
    found = []
    for padding in (_INNER, _OUTER):
        padded = bytes(byte ^ padding for byte in key.ljust(BLOCK, b"\0"))
        found += [struct.pack("<8I", *compressed(padded)), padded[: len(key)]]
    return found
