/* Straight through: look who calls, enter the tree, run the stage. */

#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MOST_VARIABLES 64
#define OTHERS_AT_MOST 1024 /* open files that are closed where it cannot be seen which there are */
#define CONSOLE_PATIENCE 200 /* milliseconds that a console which takes nothing costs a line */

static const char *const UNWANTED[] = {
    "LD_", "PYTHON", "_PYI_", "PYI", "MALLOC_", "GLIBC_TUNABLES=", "FINALSTAGE_PID1=",
    "FINALSTAGE_STANDS_IN=", NULL,
};

void say(const char *format, ...)
{
    static const char name[] = "finalstage: ";
    struct pollfd console = {.fd = STDERR_FILENO, .events = POLLOUT};
    char line[256];
    size_t length = sizeof name - 1;
    va_list arguments;
    int added;

    memcpy(line, name, length);
    va_start(arguments, format);
    added = vsnprintf(line + length, sizeof line - length, format, arguments);
    va_end(arguments);
    length += added < 0 ? 0 : (size_t)added < sizeof line - length ? (size_t)added
                                                                   : sizeof line - length - 1;
    line[length++] = '\n'; /* in place of the end of the string */
    /* A console with flow control may take nothing, for ever: it is opened O_NONBLOCK. */
    poll(&console, 1, CONSOLE_PATIENCE);
    if (write(STDERR_FILENO, line, length) < 0)
        return;
}

void close_from(int first)
{
    struct dirent *entry;
    DIR *files;

    if (syscall(SYS_close_range, first, ~0U, 0) == 0)
        return;
    files = opendir("/proc/self/fd"); /* before Linux 5.9 */
    for (int file = first; !files && file < OTHERS_AT_MOST; file++)
        close(file);
    while (files && (entry = readdir(files))) {
        int file = atoi(entry->d_name);

        if (file >= first && file != dirfd(files))
            close(file);
    }
    if (files)
        closedir(files);
}

static int starts_with_any(const char *text, const char *const *prefixes)
{
    for (; *prefixes; prefixes++)
        if (!strncmp(text, *prefixes, strlen(*prefixes)))
            return 1;
    return 0;
}

/* The caller's environment, without what would change how ld.so, libc or Python start. */
static char **clean_environment(char **inherited, int as_pid1, int stand_in)
{
    static char *kept[MOST_VARIABLES + 1];
    int count = 0;

    kept[count++] = as_pid1 ? "FINALSTAGE_PID1=yes" : "FINALSTAGE_PID1=no";
    kept[count++] = stand_in ? "FINALSTAGE_STANDS_IN=yes" : "FINALSTAGE_STANDS_IN=no";
    kept[count++] = "MALLOC_ARENA_MAX=1"; /* memory is locked: no arena for each thread */
    for (; *inherited && count < MOST_VARIABLES; inherited++)
        if (!starts_with_any(*inherited, UNWANTED))
            kept[count++] = *inherited;
    return kept;
}

/* Standard streams on the tree's own console, and nothing else open: an open file of the old
 * root would keep it busy, and /dev/console of the old /dev is one. */
static void open_console(void)
{
    int console = open("/dev/console", O_RDWR | O_NOCTTY | O_NONBLOCK);

    if (console < 0)
        console = open("/dev/null", O_RDWR);
    for (int stream = 0; stream <= STDERR_FILENO; stream++)
        if (console < 0)
            close(stream);
        else if (console != stream)
            dup2(console, stream);
    close_from(STDERR_FILENO + 1);
}

/* Whether it is by a link of this name that we were executed. */
static int is_executed_as(const char *name)
{
    const char *executed = (const char *)getauxval(AT_EXECFN);
    const char *slash = executed ? strrchr(executed, '/') : NULL;

    return slash && !strcmp(slash + 1, name);
}

int main(int argc, char **argv)
{
    int as_pid1 = getpid() == 1;
    int has_tree = find_tree();
    int elsewhere = !has_tree && find_place();
    int stand_in = as_pid1 && elsewhere && is_place("systemd-shutdown");

    if (is_executed_as("wipe-keys"))
        return wipe_keys(argv, clean_environment(environ, 0, 0), has_tree);
    if (!as_pid1 && elsewhere) {
        execute_covered(argv);
        if (!is_place("finalstage")) { /* somebody wants what we cover: never take that for us */
            say("cannot execute the original %s, which this program covers", argv[0]);
            return 2;
        }
    }
    setpriority(PRIO_PROCESS, 0, -20); /* whatever else runs is to end */
    if (argc == 3 && !strcmp(argv[1], "--scrub"))
        return scrub_memory(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "--hooks"))
        return run_hooks(argv[2], argv[3]);
    if (argc == 6 && !strcmp(argv[1], "--moment"))
        return run_moment(argv[2], argv[3], argv[4], argv[5]);
    if (argc == 3 && !strcmp(argv[1], "--stage") && has_tree)
        return stage_into(argv[2]);
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        argv[0] = STAGE;
        execve(STAGE, argv, environ); /* works where the tree is the root: that is the test */
        say("cannot start %s: %s", STAGE, strerror(errno));
        return 1;
    }
    if (!as_pid1 && (argc < 2 || geteuid() != 0)) {
        say(argc < 2 ? "takes the machine down at once; say how: %s poweroff|halt|reboot|kexec"
                     : "%s must be run by root", argv[0]);
        return 2;
    }
    if (elsewhere) {
        if (stand_in && is_container())
            execute_original(argv, "a container");
        has_tree = find_mounted_tree();
        if (as_pid1 && !has_tree)
            execute_original(argv, "no tree");
        if (leave_place() < 0)
            say("cannot unmount this program where it was executed: %s", strerror(errno));
    }
    if (has_tree)
        enter_tree();
    else
        say("cannot find the tree that this program belongs to: %s", strerror(errno));
    open_console();
    guard_stage(argv, clean_environment(environ, as_pid1, stand_in), as_pid1);
    return 1;
}
