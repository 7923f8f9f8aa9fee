"""Builds finalstage.kernel._linux, the cffi extension, from the topic files.

API mode: the compiler checks every declaration against the headers and fills in the constants.
"""

from cffi import FFI

from cffi_build.topics import block, dm, fscrypt, keys, loop, mount, process, reboot

TOPICS = (mount, dm, block, loop, keys, fscrypt, process, reboot)

ffi = FFI()
ffi.cdef("".join(topic.CDEF for topic in TOPICS))
ffi.set_source(
    "finalstage.kernel._linux",
    "".join(topic.SOURCE for topic in TOPICS),
    extra_compile_args=["-Wall", "-Werror=implicit-function-declaration", "-Os"],
)
