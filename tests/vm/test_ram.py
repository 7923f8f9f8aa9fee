"""The search for keys, on memory that is made for it."""

from __future__ import annotations

from tests.vm import aes
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


def test_nothing_is_found_in_memory_that_holds_nothing() -> None:
    assert search(iter([bytes(1 << 20)]), patterns([KEY], SECRET)) == Copies(0, 0, 0, 0)


def test_a_key_is_found_at_any_alignment_and_across_pieces() -> None:
    memory = bytes(4093) + KEY + bytes(1000) + SECRET + bytes(5)
    pieces = [memory[:4100], memory[4100:4150], memory[4150:]]
    assert search(iter(pieces), patterns([KEY], SECRET)) == Copies(1, 2, 0, 1)


def test_each_round_key_is_found_on_its_own() -> None:
    """The first two encryption round keys are the half itself, and count as such."""
    rounds = aes.encryption_round_keys(KEY[32:]) + aes.decryption_round_keys(KEY[32:])
    memory = b"\xff".join(rounds)
    assert search(iter([memory]), patterns([KEY], SECRET)) == Copies(0, 0, 13 + 13, 0)
