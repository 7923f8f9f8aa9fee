/* The machine's watchdog: it resets a machine on which everything hangs, ourselves included.
 * Documentation/watchdog/watchdog-api.rst.
 *
 * Left armed at the end, so that it also covers reboot(2); only a halted machine must not be
 * reset. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT 60 /* seconds */
#define NEVER 3600000L

static int device = -1;
static long interval = NEVER, fed;

/* systemd's name for it, if it has one: become_shutdown() in src/core/main.c. */
static const char *told_device;

static int open_one(void)
{
    static const char *const usual[] = {"/dev/watchdog0", "/dev/watchdog"};
    int found = told_device ? open(told_device, O_WRONLY | O_CLOEXEC) : -1;

    for (size_t i = 0; found < 0 && i < sizeof usual / sizeof *usual; i++)
        found = open(usual[i], O_WRONLY | O_CLOEXEC);
    return found;
}

void watchdog_open(const char *verb)
{
    const char *microseconds = getenv("WATCHDOG_USEC"); /* 0 where systemd has disarmed it */
    long long told = microseconds ? strtoll(microseconds, NULL, 10) : 0;
    int is_ticking = told > 0 && told < 86400000000LL;
    int timeout = is_ticking ? (int)((told + 999999) / 1000000) : DEFAULT_TIMEOUT;

    told_device = getenv("WATCHDOG_DEVICE");
    /* One that cannot be disarmed again (nowayout) would reset a halted machine: leave it alone,
     * unless it is ticking already. */
    if (!strcmp(verb, "halt") && !is_ticking)
        return;
    device = open_one();
    if (device < 0)
        return;
    if (ioctl(device, WDIOC_SETTIMEOUT, &timeout) < 0 &&
        ioctl(device, WDIOC_GETTIMEOUT, &timeout) < 0)
        timeout = 10;
    ioctl(device, WDIOC_SETOPTIONS, &(int){WDIOS_ENABLECARD});
    interval = timeout * SECOND / 4;
    fed = now() - interval;
    watchdog_feed();
}

void watchdog_feed(void)
{
    if (device < 0 || interval == NEVER || now() < fed + interval)
        return;
    if (ioctl(device, WDIOC_KEEPALIVE, 0) < 0 && write(device, "", 1) < 0)
        say("cannot feed the watchdog: %s", strerror(errno));
    fed = now();
}

void watchdog_feed_last(void)
{
    fed = now() - interval;
    watchdog_feed();
    interval = NEVER;
}

long watchdog_interval(void)
{
    return interval;
}

void watchdog_close(void)
{
    if (device < 0)
        return;
    /* The magic close; with nowayout the kernel does not heed it. */
    if ((ioctl(device, WDIOC_SETOPTIONS, &(int){WDIOS_DISABLECARD}) < 0) |
        (write(device, "V", 1) != 1))
        say("cannot disarm the watchdog: %s", strerror(errno));
    close(device);
    device = -1;
    interval = NEVER;
}
