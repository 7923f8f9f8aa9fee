"""Going down: reboot(2), by number, since glibc's wrapper has no place for the argument."""

SOURCE = """
#include <linux/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static int sys_reboot(unsigned int command, const char *argument)
{
    return syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, argument);
}
"""

CDEF = """
#define LINUX_REBOOT_CMD_POWER_OFF ...
#define LINUX_REBOOT_CMD_HALT ...
#define LINUX_REBOOT_CMD_RESTART ...
#define LINUX_REBOOT_CMD_RESTART2 ...
#define LINUX_REBOOT_CMD_KEXEC ...

int sys_reboot(unsigned int command, const char *argument);
"""
