"""The search for keys, on memory that is made for it."""

from __future__ import annotations

import hashlib
import hmac
import struct

from tests.vm import aes, sha256
from tests.vm.ram import Copies, patterns, search

KEY = bytes(range(64))
SECRET = b"not to be found in any memory..."


def test_key_expansion_is_that_of_the_standard() -> None:
    """FIPS 197, appendix A.3: the last round key of its example."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    rounds = aes.encryption_round_keys(key)
    assert rounds[0] + rounds[1] == key
    assert rounds[14].hex() == "fe4890d1e6188d0b046df344706c631e"


def test_inverse_round_keys_are_those_of_the_standard() -> None:
    """FIPS 197, appendix C.3, equivalent inverse cipher: ik_sch of round 1."""
    last = aes.decryption_round_keys(bytes(range(32)))[-1]
    assert last.hex() == "34f1d1ffbfceaa2ffce9e25f2558016e"


def test_compression_is_that_of_the_standard() -> None:
    """A message that fits into one block with its padding and its length in bits."""
    block = b"abc\x80".ljust(56, b"\0") + struct.pack(">Q", 24)
    assert struct.pack(">8I", *sha256.compressed(block)) == hashlib.sha256(b"abc").digest()


def test_the_states_are_those_after_the_padded_key() -> None:
    """The sum of nothing, from the state of the inner and of the outer hash alone."""
    inner, padded_inside, outer, padded_outside = sha256.hmac_states(KEY[:32])
    assert padded_inside.translate(bytes(i ^ 0x36 for i in range(256))) == KEY[:32]
    assert padded_outside.translate(bytes(i ^ 0x5C for i in range(256))) == KEY[:32]
    ends = struct.pack(">Q", 8 * 64), struct.pack(">Q", 8 * 96)
    nothing = _going_on(inner, b"\x80".ljust(56, b"\0") + ends[0])
    whole = _going_on(outer, nothing + b"\x80".ljust(24, b"\0") + ends[1])
    assert whole == hmac.digest(KEY[:32], b"", "sha256")


def _going_on(state: bytes, block: bytes) -> bytes:
    """The digest after one more block."""
    words = sha256.compressed(block, struct.unpack("<8I", state))
    return struct.pack(">8I", *words)


def test_nothing_is_found_in_memory_that_holds_nothing() -> None:
    assert search(iter([bytes(1 << 20)]), patterns([KEY], SECRET)) == Copies()


def test_a_key_is_found_at_any_alignment_and_across_pieces() -> None:
    memory = bytes(4093) + KEY + bytes(1000) + SECRET + bytes(5)
    pieces = [memory[:4100], memory[4100:4150], memory[4150:]]
    assert search(iter(pieces), patterns([KEY], SECRET)) == Copies(keys=1, halves=2, plaintext=1)


def test_each_round_key_is_found_on_its_own() -> None:
    """The first two encryption round keys are the half itself, and count as such."""
    rounds = aes.encryption_round_keys(KEY[32:]) + aes.decryption_round_keys(KEY[32:])
    memory = b"\xff".join(rounds)
    assert search(iter([memory]), patterns([KEY], SECRET)) == Copies(round_keys=13 + 13)


def test_each_state_of_a_mac_is_found_on_its_own() -> None:
    memory = b"\xff".join(sha256.hmac_states(KEY[:32]))
    assert search(iter([memory]), patterns([], SECRET, [KEY[:32]])) == Copies(mac_states=4)


def test_a_key_as_text_is_found_where_that_says_something() -> None:
    memory = f"0 2048 crypt aes-xts-plain64 {KEY.hex()} 0 8:0 0".encode()
    assert search(iter([memory]), patterns([KEY], SECRET)) == Copies()
    assert search(iter([memory]), patterns([KEY], SECRET, (), [KEY])) == Copies(texts=2)
