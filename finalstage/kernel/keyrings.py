"""Keyrings, cleared as the user whose they are.

Root has no rights to the keys of others; so a thread becomes that user for as long as it takes.
The kernel keeps user IDs a thread: only glibc would change those of all. Links to a keyring that
the thread itself has make it the possessor of all keys therein, which a user's own are not
else. Source: security/keys/permission.c, Documentation/security/keys/core.rst.
"""

from __future__ import annotations

import posix

from finalstage.kernel._linux import ffi, lib

DEEPEST = 6
"""How deep keyrings nest: KEYRING_SEARCH_MAX_DEPTH in security/keys/keyring.c."""

THREAD = lib.KEY_SPEC_THREAD_KEYRING
OF_THE_CALLER = (THREAD, lib.KEY_SPEC_PROCESS_KEYRING, lib.KEY_SPEC_SESSION_KEYRING)
OF_A_USER = (lib.KEY_SPEC_USER_SESSION_KEYRING, lib.KEY_SPEC_USER_KEYRING)


def clear(uid: int) -> int:
    """Clear all keyrings of a user; return how many keys have gone. OSError if nothing could be.

    For root, those of the calling process too. To be run on a thread that nothing else needs.
    """
    # Made as root, or it would count as a key of the user's.
    lib.sys_keyctl(lib.KEYCTL_GET_KEYRING_ID, THREAD, 1, 0)
    if uid and lib.sys_setresuid(uid, uid, 0) < 0:
        raise _failure(f"user {uid}")
    try:
        seen: set[int] = set()
        gone = sum(_clear(ring, seen) for ring in (() if uid else OF_THE_CALLER))
        # To ask for one that is missing makes it: so all are asked for, and then all dropped.
        rings = [_ring(special) for special in OF_A_USER]
        rings.append(lib.sys_keyctl(lib.KEYCTL_GET_PERSISTENT, uid, THREAD, 0))
        for ring in rings:
            if ring > 0:
                lib.sys_keyctl(lib.KEYCTL_LINK, ring, THREAD, 0)
                gone += _clear(ring, seen)
        for ring in rings:
            if ring > 0:
                lib.sys_keyctl(lib.KEYCTL_INVALIDATE, ring, 0, 0)
        lib.sys_keyctl(lib.KEYCTL_CLEAR, THREAD, 0, 0)
        return gone
    finally:
        if uid and lib.sys_setresuid(0, 0, 0) < 0:
            raise _failure("user 0")


def clear_ring(ring: int) -> None:
    """Clear a keyring of the kernel that root may clear; OSError if that is not one."""
    if lib.sys_keyctl(lib.KEYCTL_CLEAR, ring, 0, 0) < 0:
        raise _failure(f"keyring {ring}")


def revoke(key: int) -> None:
    """Revoke a key, which overwrites a `user` or `logon` one at once: user_revoke() in
    security/keys/user_defined.c. OSError if root may not, or it has gone."""
    if lib.sys_keyctl(lib.KEYCTL_REVOKE, key, 0, 0) < 0:
        raise _failure(f"key {key}")


def _failure(name: str) -> OSError:
    return OSError(ffi.errno, posix.strerror(ffi.errno), name)


def _ring(special: int) -> int:
    return lib.sys_keyctl(lib.KEYCTL_GET_KEYRING_ID, special, 0, 0)


def _clear(ring: int, seen: set[int], depth: int = 0) -> int:
    """Invalidate each key in a keyring and in those below; then unlink what is left.

    An invalidated key is collected at once, with its payload overwritten. A revoked one loses its
    payload, and the rest of it later. One that is only unlinked may be held elsewhere.
    """
    gone = 0
    for key in _keys_in(ring):
        if key in seen:
            continue
        seen.add(key)
        if _type(key) == b"keyring":
            if depth < DEEPEST:
                gone += _clear(key, seen, depth + 1)
        else:
            # Where even that is denied, or it is expired, it goes with its last link.
            if lib.sys_keyctl(lib.KEYCTL_INVALIDATE, key, 0, 0) < 0:
                lib.sys_keyctl(lib.KEYCTL_REVOKE, key, 0, 0)
            gone += 1
    lib.sys_keyctl(lib.KEYCTL_CLEAR, ring, 0, 0)
    return gone


def _keys_in(ring: int) -> list[int]:
    size = 256
    while True:
        buffer = ffi.new("int32_t[]", size)
        address = int(ffi.cast("intptr_t", buffer))
        got = lib.sys_keyctl(lib.KEYCTL_READ, ring, address, ffi.sizeof(buffer))
        if got <= ffi.sizeof(buffer):
            return [int(key) for key in buffer[0 : max(got, 0) // 4]]
        size = got // 4 + 64


def _type(key: int) -> bytes:
    """Return a key's type: the first field of its description."""
    buffer = ffi.new("char[]", 512)
    address = int(ffi.cast("intptr_t", buffer))
    if lib.sys_keyctl(lib.KEYCTL_DESCRIBE, key, address, 512) < 0:
        return b""
    return bytes(ffi.buffer(buffer, 64)).partition(b";")[0]
