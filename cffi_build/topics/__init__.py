"""One module a subject: CDEF is what Python sees, SOURCE the headers it is compiled against.

A constant or a struct is never typed by hand: ``...`` in CDEF makes the compiler fill in what
the kernel's and libc's own headers say.
"""
