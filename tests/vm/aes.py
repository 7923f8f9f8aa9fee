"""The key schedules of AES-256, as they lie in the memory of a machine that encrypts with it.

FIPS 197, sections 5.2 (key expansion) and 5.3.5 (equivalent inverse cipher). The kernel keeps
both schedules in struct crypto_aes_ctx, and aesni-intel keeps them in the same byte order.
"""

from __future__ import annotations


def _times_two(byte: int) -> int:
    return (byte << 1 ^ 0x11B) if byte & 0x80 else byte << 1


def _times(byte: int, factor: int) -> int:
    product = 0
    while factor:
        if factor & 1:
            product ^= byte
        byte, factor = _times_two(byte), factor >> 1
    return product


def _sbox() -> bytes:
    """Inverse in GF(2^8), then the affine transformation (FIPS 197, section 5.1.1)."""
    box = bytearray(256)
    for byte in range(256):
        inverse = next((x for x in range(256) if _times(byte, x) == 1), 0)
        twice = inverse * 0x101
        rotated = twice >> 4 ^ twice >> 5 ^ twice >> 6 ^ twice >> 7
        box[byte] = 0x63 ^ inverse ^ rotated & 255
    return bytes(box)


_SBOX = _sbox()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _inverse_mix_column(column: bytes) -> bytes:
    rows = ((14, 11, 13, 9), (9, 14, 11, 13), (13, 9, 14, 11), (11, 13, 9, 14))
    mixed = []
    for row in rows:
        value = 0
        for factor, byte in zip(row, column, strict=True):
            value ^= _times(byte, factor)
        mixed.append(value)
    return bytes(mixed)


def encryption_round_keys(key: bytes) -> list[bytes]:
    """The 15 round keys of 16 bytes; the first two are the 32-byte key itself."""
    if len(key) != 32:
        raise ValueError(f"an AES-256 key has 32 bytes, not {len(key)}")
    words = [key[i : i + 4] for i in range(0, 32, 4)]
    constant = 1
    while len(words) < 60:
        word = words[-1]
        if len(words) % 8 == 0:
            word = bytes(_SBOX[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _times_two(constant)
        elif len(words) % 8 == 4:
            word = bytes(_SBOX[b] for b in word)
        words.append(_xor(words[-8], word))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


def decryption_round_keys(key: bytes) -> list[bytes]:
    """The 13 inner round keys of the equivalent inverse cipher; its outer two are encryption's."""
    inner = encryption_round_keys(key)[1:-1]
    return [
        b"".join(_inverse_mix_column(each[i : i + 4]) for i in range(0, 16, 4)) for each in inner
    ]
