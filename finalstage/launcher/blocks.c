/* Who stands on whom, as sysfs tells it: Documentation/ABI/stable/sysfs-block. */

#define _GNU_SOURCE
#include "guardian.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEEPEST 16

/* Read a file `dev`, major:minor. */
static int read_device(const char *path, dev_t *device)
{
    FILE *file = fopen(path, "re");
    unsigned int major, minor;
    int found = file && fscanf(file, "%u:%u", &major, &minor) == 2;

    if (file)
        fclose(file);
    if (found)
        *device = makedev(major, minor);
    return found ? 0 : -1;
}

int each_below(dev_t device, int (*call)(dev_t, void *), void *argument)
{
    char folder[64], path[400];
    struct dirent *entry;
    DIR *slaves;
    dev_t lower;
    int result = 0;

    snprintf(folder, sizeof folder, "/sys/dev/block/%u:%u", major(device), minor(device));
    /* A partition stands on its disk, which is the folder around its own. */
    snprintf(path, sizeof path, "%s/partition", folder);
    if (access(path, F_OK) == 0) {
        snprintf(path, sizeof path, "%s/../dev", folder);
        return read_device(path, &lower) == 0 ? call(lower, argument) : 0;
    }
    /* A loop device stands on the file system of its file. */
    snprintf(path, sizeof path, "%s/loop/backing_file", folder);
    if (access(path, F_OK) == 0) {
        char backing[256];
        struct stat info;
        FILE *file = fopen(path, "re");

        if (file && fscanf(file, "%255[^\n]", backing) == 1 && stat(backing, &info) == 0)
            result = call(info.st_dev, argument);
        if (file)
            fclose(file);
        return result;
    }
    snprintf(path, sizeof path, "%s/slaves", folder);
    slaves = opendir(path);
    while (!result && slaves && (entry = readdir(slaves))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/slaves/%.255s/dev", folder, entry->d_name);
        if (read_device(path, &lower) == 0)
            result = call(lower, argument);
    }
    if (slaves)
        closedir(slaves);
    return result;
}

struct search {
    dev_t wanted;
    int depth;
};

static int is_or_stands_on(dev_t device, void *argument)
{
    struct search *above = argument;
    struct search here = {above->wanted, above->depth + 1};

    return device == here.wanted ||
           (here.depth < DEEPEST && each_below(device, is_or_stands_on, &here));
}

int stands_on(dev_t upper, dev_t lower)
{
    struct search search = {.wanted = lower};

    return is_or_stands_on(upper, &search);
}

/* Whether the kernel's reboot notifiers know a block device. */
static int has_notifier(const char *name)
{
    char path[320], uuid[32] = "";
    FILE *file;

    snprintf(path, sizeof path, "/sys/block/%.255s/md", name);
    if (access(path, F_OK) == 0)
        return 1;
    snprintf(path, sizeof path, "/sys/block/%.255s/bcache", name);
    if (access(path, F_OK) == 0)
        return 1;
    snprintf(path, sizeof path, "/sys/block/%.255s/dm/uuid", name);
    file = fopen(path, "re");
    if (file && !fgets(uuid, sizeof uuid, file))
        uuid[0] = '\0';
    if (file)
        fclose(file);
    /* The names that cryptsetup and integritysetup give: lib/internal.h, lib/libdevmapper.c. */
    return !strncmp(uuid, "CRYPT-INTEGRITY", 15);
}

int reboot_waits_for(dev_t device)
{
    DIR *blocks = opendir("/sys/block");
    struct dirent *entry;
    char path[320];
    dev_t upper;
    int found = 0;

    while (!found && blocks && (entry = readdir(blocks))) {
        if (entry->d_name[0] == '.' || !has_notifier(entry->d_name))
            continue;
        snprintf(path, sizeof path, "/sys/block/%.255s/dev", entry->d_name);
        found = read_device(path, &upper) == 0 && upper != device && stands_on(upper, device);
    }
    if (blocks)
        closedir(blocks);
    return found;
}
