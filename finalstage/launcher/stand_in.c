/* Standing in for a program of init: this file is mounted in its place, and PID 1 executes it there,
 * with the arguments and the environment that are meant for that program. So systemd executes
 * systemd-shutdown (become_shutdown() in src/core/main.c), sysvinit itself once more (re_exec() in
 * src/init.c), and dinit its shutdown (src/dinit.cc).
 *
 * Where the tree that the file was mounted from cannot be found, or the machine is a container, the
 * mount is taken away, and what lies below it is executed as if it had never been there. Whoever
 * else executes that program meanwhile gets it too, while the mount stays. */

#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define USUAL_TREE "/run/initramfs"

static char place[PATH_MAX]; /* where we were executed */
static struct stat ourselves;

int find_place(void)
{
    const char *executed = (const char *)getauxval(AT_EXECFN);

    /* It may be a link, as telinit is one to init: only what it leads to is covered. */
    return executed && realpath(executed, place) && stat(place, &ourselves) == 0;
}

int is_place(const char *name)
{
    const char *slash = strrchr(place, '/');

    return slash && !strcmp(slash + 1, name);
}

int is_container(void)
{
    const char *container = getenv("container");

    return (container && *container) || access("/run/systemd/container", F_OK) == 0;
}

static int is_ourselves(const char *path)
{
    struct stat found;

    return stat(path, &found) == 0 && found.st_dev == ourselves.st_dev &&
           found.st_ino == ourselves.st_ino;
}

/* Go to a directory, if the file that is executed lies in it, and the stage below it. */
static int is_tree(const char *directory)
{
    return chdir(directory) == 0 && is_ourselves("shutdown") && access(STAGE + 1, F_OK) == 0;
}

int find_mounted_tree(void)
{
    FILE *mountinfo;
    char *line = NULL;
    size_t size = 0;
    int found = is_tree(USUAL_TREE); /* all that can be done without /proc */

    mountinfo = found ? NULL : fopen("/proc/self/mountinfo", "re");
    while (!found && mountinfo && getline(&line, &size, mountinfo) > 0) {
        char root[PATH_MAX], target[PATH_MAX];
        unsigned int major, minor;

        /* Only on that file system anything is looked at: another one might not answer. */
        if (sscanf(line, "%*d %*d %u:%u %4095s %4095s", &major, &minor, root, target) != 4 ||
            makedev(major, minor) != ourselves.st_dev || strcmp(root, "/"))
            continue;
        unescape(target);
        found = is_tree(target);
    }
    if (mountinfo)
        fclose(mountinfo);
    free(line);
    return found;
}

int leave_place(void)
{
    while (is_ourselves(place))
        if (umount2(place, MNT_DETACH) < 0)
            return -1;
    return 0;
}

/* The directory of the place without what is mounted in it, so that what we cover is seen; -1 if
 * there is none. `name` becomes that of the file. */
static int open_below(const char **name)
{
    char *slash = strrchr(place, '/');
    struct stat below;
    int directory;

    if (!slash)
        return -1;
    *slash = '\0';
    directory = syscall(SYS_open_tree, AT_FDCWD, *place ? place : "/",
                        OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    *slash = '/';
    *name = slash + 1;
    if (directory >= 0 && fstatat(directory, *name, &below, 0) == 0 &&
        (below.st_dev != ourselves.st_dev || below.st_ino != ourselves.st_ino))
        return directory;
    close(directory);
    return -1;
}

void execute_covered(char **arguments)
{
    const char *name;
    int directory = open_below(&name);

    if (directory < 0)
        return; /* we cover nothing, or have no right to see it */
    syscall(SYS_execveat, directory, name, arguments, environ, 0);
    if (errno == ENOENT) { /* a script, whose interpreter opens it by that descriptor: exec.c */
        fcntl(directory, F_SETFD, 0);
        syscall(SYS_execveat, directory, name, arguments, environ, 0);
    }
    say("cannot execute the original %s: %s", place, strerror(errno));
    close(directory);
}

/* Say something while the standard streams are still those of systemd, which lead nowhere. */
static void say_aloud(const char *what, const char *why)
{
    int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    int before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

    if (console >= 0)
        dup2(console, STDERR_FILENO);
    say("%s %s: %s", what, place, why);
    if (before >= 0)
        dup2(before, STDERR_FILENO);
    close(before);
    close(console);
}

void execute_original(char **arguments, const char *why)
{
    if (leave_place() < 0) {
        say_aloud("cannot leave", strerror(errno));
        return;
    }
    say_aloud("leaving it to the original", why);
    setpriority(PRIO_PROCESS, 0, 0);
    if (chdir("/") < 0) /* where PID 1 is, as a rule: the search may have left us in a tree */
        say_aloud("cannot leave the tree of", strerror(errno));
    execv(place, arguments);
    say_aloud("cannot execute", strerror(errno));
}
