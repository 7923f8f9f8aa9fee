/* The very end: reboot(2), bounded, then sysrq. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REBOOT_TIME (30 * SECOND)
#define SYSRQ_TIME (10 * SECOND)
#define NOTIFY_TIME (SECOND / 2)

static int trigger = -1;

void prepare_down(void)
{
    trigger = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
}

static int reboot_now(void *verb)
{
    unsigned int command = !strcmp(verb, "reboot") ? LINUX_REBOOT_CMD_RESTART
                           : !strcmp(verb, "halt") ? LINUX_REBOOT_CMD_HALT
                           : !strcmp(verb, "kexec") ? LINUX_REBOOT_CMD_KEXEC
                                                    : LINUX_REBOOT_CMD_POWER_OFF;

    syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, NULL);
    say("%s failed: %s", (char *)verb, strerror(errno));
    return 1;
}

/* A second reboot(2) would wait for a first that hangs; sysrq `b` does not. `o` takes the same way
 * as reboot(2), from a kernel thread: Documentation/admin-guide/sysrq.rst. */
static int sysrq(void *letter)
{
    if (trigger < 0)
        prepare_down();
    if (trigger < 0 || write(trigger, letter, 1) < 0) {
        say("sysrq failed: %s", strerror(errno));
        return 1;
    }
    return 0;
}

static int stand_still(void *unused)
{
    (void)unused;
    pause();
    return 0;
}

void go_down(const char *verb)
{
    notify(verb, NOTIFY_TIME);
    if (!strcmp(verb, "halt"))
        watchdog_close();
    else
        watchdog_feed_last();
    if (left_out.reboot)
        for (;;)
            pause_until(now() + SECOND, NULL, 0, NULL);
    aside(verb, reboot_now, (void *)verb, REBOOT_TIME);
    if (!strcmp(verb, "kexec"))
        aside("reboot", reboot_now, "reboot", REBOOT_TIME);
    if (!strcmp(verb, "halt"))
        aside("stand still", stand_still, NULL, SYSRQ_TIME);
    else
        aside("trigger sysrq", sysrq, !strcmp(verb, "poweroff") ? "o" : "b", SYSRQ_TIME);
}
