"""What the stage does to its own process and its console."""

SOURCE = """
#include <sys/mman.h>
#include <termios.h>
"""

CDEF = """
#define MCL_CURRENT ...
#define MCL_FUTURE ...

int mlockall(int flags);
int tcdrain(int fd);
"""
