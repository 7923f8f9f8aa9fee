"""Keys that file systems hold for encrypted directories.

Source: Documentation/filesystems/fscrypt.rst, <linux/fscrypt.h>.
"""

from __future__ import annotations

import posix

from finalstage.kernel import FileSystemKey
from finalstage.kernel._linux import ffi, lib


def key_of(directory: int) -> FileSystemKey:
    """Return the key of an encrypted directory. ENODATA if it is not encrypted, ENOTTY or
    EOPNOTSUPP if none can be on this file system."""
    type = ffi.new("unsigned int *")
    name = ffi.new("unsigned char[]", lib.FSCRYPT_KEY_IDENTIFIER_SIZE)
    size = lib.fscrypt_get_key(directory, type, name)
    if size < 0:
        raise OSError(ffi.errno, posix.strerror(ffi.errno))
    return FileSystemKey(type[0], bytes(ffi.buffer(name, size)))


def remove(directory: int, key: FileSystemKey) -> bool:
    """Wipe a key; return whether files are still in use, and keep their own keys. ENOKEY if it
    is not there. Writes out all that is dirty in files of that key."""
    status = ffi.new("unsigned int *")
    if lib.fscrypt_remove_key(directory, key.type, key.name, len(key.name), status) < 0:
        raise OSError(ffi.errno, posix.strerror(ffi.errno), key.title)
    return bool(status[0] & lib.FSCRYPT_KEY_REMOVAL_STATUS_FLAG_FILES_BUSY)


def clear_flags(file: int, flags: int) -> None:
    """Take flags, as chattr sets them, from a file."""
    value = ffi.new("int *")
    if lib.ioctl(file, lib.FS_IOC_GETFLAGS, value) < 0:
        raise OSError(ffi.errno, posix.strerror(ffi.errno))
    value[0] &= ~flags
    if lib.ioctl(file, lib.FS_IOC_SETFLAGS, value) < 0:
        raise OSError(ffi.errno, posix.strerror(ffi.errno))
