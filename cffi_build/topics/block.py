"""Block devices: md, nbd, and the one ioctl(2) that carries them all."""

SOURCE = """
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <linux/major.h>
#include <linux/nbd.h>
#include <linux/raid/md_u.h>
"""

CDEF = """
#define STOP_ARRAY ...
#define NBD_CLEAR_SOCK ...

int ioctl(int fd, unsigned long request, ...);
"""
