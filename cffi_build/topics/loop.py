"""Loop devices: LOOP_CLR_FD."""

SOURCE = """
#include <linux/loop.h>
"""

CDEF = """
#define LOOP_CLR_FD ...
"""
