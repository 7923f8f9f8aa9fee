/* Staging where there is no Python, nor any other program that could be relied on: in an initramfs
 * before the root is switched, and on appliances. The tree that this file lies in is copied into a
 * tmpfs of its own, since /run may be noexec, small, or both. */

#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether anything is mounted below a directory. */
static int has_mounts_below(const char *directory)
{
    FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
    size_t length = strlen(directory), size = 0;
    char *line = NULL;
    int found = 0;

    while (length > 1 && directory[length - 1] == '/')
        length--;
    while (mountinfo && !found && getline(&line, &size, mountinfo) > 0) {
        char place[PATH_MAX];

        if (sscanf(line, "%*d %*d %*s %*s %4095s", place) != 1)
            continue;
        unescape(place);
        found = !strncmp(place, directory, length) && place[length] == '/';
    }
    if (mountinfo)
        fclose(mountinfo);
    free(line);
    return found;
}

/* Mount it with room for half of the memory that is available: a tree that needs more is not worth
 * what the kernel would kill for it. */
static int mount_tmpfs(const char *place)
{
    FILE *meminfo = fopen("/proc/meminfo", "re");
    char line[128], options[64] = "mode=0755";
    unsigned long kib;

    while (meminfo && fgets(line, sizeof line, meminfo))
        if (sscanf(line, "MemAvailable: %lu", &kib) == 1)
            snprintf(options, sizeof options, "mode=0755,size=%luk", kib / 2);
    if (meminfo)
        fclose(meminfo);
    return mount("finalstage", place, "tmpfs", 0, options);
}

/* Take along what an initramfs has left there for the real root to know: that a file system was
 * checked, say. Not another shutdown tree, nor dracut's order to unpack its own over this one. */
static void keep(int old, int new, const char *place)
{
    if (faccessat(old, "shutdown", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return;
    if (copy_directory(dup(old), new))
        say("cannot keep all that was in %s: %s", place, strerror(errno));
    unlinkat(new, ".need_shutdown", 0);
}

static int refuse(const char *place, const char *why)
{
    say("cannot stage into %s: %s", place, why);
    return 1;
}

int stage_into(const char *place)
{
    int from = open(".", O_RDONLY | O_DIRECTORY);
    int old, new;

    if (*place != '/')
        return refuse(place, "say the whole path");
    if (same_directory(".", "/"))
        return refuse(place, "the tree is the root directory, and not in one of its own");
    umask(0);
    mkdir(place, 0755);
    old = open(place, O_RDONLY | O_DIRECTORY);
    if (from < 0 || old < 0)
        return refuse(place, strerror(errno));
    /* What lies on a noexec mount is not executable for access(2) either. */
    if (faccessat(old, STAGE + 1, X_OK, 0) == 0 && faccessat(old, "shutdown", X_OK, 0) == 0)
        return 0;
    if (has_mounts_below(place))
        return refuse(place, "something is mounted below it, and would be hidden");
    if (mount_tmpfs(place) < 0)
        return refuse(place, strerror(errno));
    new = open(place, O_RDONLY | O_DIRECTORY);
    if (new < 0 || copy_directory(from, new)) {
        refuse(place, strerror(errno));
        umount2(place, MNT_DETACH);
        return 1;
    }
    keep(old, new, place);
    return 0;
}
