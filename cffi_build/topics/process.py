"""What the stage does to its own process: memory locking."""

SOURCE = """
#include <sys/mman.h>
"""

CDEF = """
#define MCL_CURRENT ...
#define MCL_FUTURE ...

int mlockall(int flags);
"""
