/* File systems: written out, each by itself so that one which hangs holds up none of the others,
 * then made read-only, or at least frozen, which leaves them as consistent. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MOST_FILE_SYSTEMS 256
#define FREEZE_TIME (2 * SECOND)
#define STILL (3 * SECOND) /* without any progress, a hang */
#define SHUT_DOWN_TIME (SECOND / 2)
#define QUIET_ARRAY 300000 /* microseconds: more than safe_mode_delay in drivers/md/md.c */

/* <linux/fs.h> has no name for it: EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN, F2FS_IOC_SHUTDOWN. */
#define SHUT_DOWN _IOR('X', 125, __u32)
#define WITHOUT_LOG_FLUSH 2

struct file_system {
    dev_t device;
    int on_block_device, is_ext;
    char place[256];
};

/* What the children have achieved. Shared with them. */
static int *read_only;

static int is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(word, *words))
            return 1;
    return 0;
}

/* Read one line of mountinfo; 0 if there is nothing to write out in such a file system. */
static int parse(char *line, struct file_system *fs)
{
    static const char *const in_memory[] = {"proc",  "sysfs", "devtmpfs", "tmpfs",
                                            "ramfs", "autofs", NULL};
    static const char *const without_number[] = {"btrfs", "bcachefs", "zfs", NULL};
    char type[64];
    unsigned int major, minor;
    char *end = strstr(line, " - ");
    struct stat info;

    if (!end || sscanf(end, " - %63s", type) != 1 || is_one_of(type, in_memory) ||
        sscanf(line, "%*d %*d %u:%u %*s %255s", &major, &minor, fs->place) != 3)
        return 0;
    unescape(fs->place);
    fs->device = makedev(major, minor);
    fs->on_block_device = major != 0;
    fs->is_ext = !strncmp(type, "ext", 3);
    if (!major && is_one_of(type, without_number)) {
        char source[256];

        /* Its own number is no device's, but where it was mounted from is one. */
        fs->on_block_device = 1;
        if (sscanf(end, " - %*s %255s", source) == 1 && stat(source, &info) == 0 &&
            S_ISBLK(info.st_mode))
            fs->device = info.st_rdev;
    }
    return 1;
}

/* All file systems that can be reached, each once. */
static size_t list(struct file_system *found, size_t most)
{
    FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t count = 0, size = 0;

    while (mountinfo && count < most && getline(&line, &size, mountinfo) > 0) {
        size_t i = 0;

        if (!parse(line, &found[count]))
            continue;
        while (found[i].device != found[count].device)
            i++;
        count += i == count;
    }
    if (mountinfo)
        fclose(mountinfo);
    free(line);
    return count;
}

int make_room(void *unused)
{
    enum { MOST = 1024 };
    static int parents[MOST], ids[MOST];
    static char places[MOST][128];
    FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t count = 0, all = 0, size = 0;

    (void)unused;
    while (mountinfo && all < MOST && getline(&line, &size, mountinfo) > 0) {
        char *type = strstr(line, " - ");

        if (sscanf(line, "%d %d %*s %*s %127s", &ids[count], &parents[all], places[count]) != 3)
            continue;
        all++;
        if (type && !strncmp(type, " - tmpfs ", 9) && strlen(places[count]) < 127 &&
            !strncmp(places[count], "/" OLD_ROOT "/", sizeof OLD_ROOT + 1))
            count++;
    }
    for (size_t i = count; i-- > 0;) {
        int is_parent = all == MOST;

        for (size_t other = 0; other < all; other++)
            is_parent |= parents[other] == ids[i];
        unescape(places[i]);
        if (!is_parent)
            umount2(places[i], MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    return 0;
}

static int remount(const struct file_system *fs, unsigned long flags)
{
    /* Errors must not panic: the device below may lose its key, and its table. */
    return mount(NULL, fs->place, NULL, MS_REMOUNT | flags, fs->is_ext ? "errors=continue" : NULL);
}

struct job {
    struct file_system *fs;
    int *read_only;
};

static int write_out_one(void *argument)
{
    struct job *job = argument;
    int file = open(job->fs->place, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (file < 0 || syncfs(file) < 0)
        say("cannot write out %s: %s", job->fs->place, strerror(errno));
    close(file);
    if (job->fs->on_block_device && remount(job->fs, MS_RDONLY) == 0)
        *job->read_only = 1;
    return 0;
}

/* For a file system that somebody has open for writing: freezing writes everything out, and
 * leaves no journal to replay. Nothing thaws it again. */
static int freeze_one(void *argument)
{
    struct job *job = argument;
    int file;

    if (remount(job->fs, MS_RDONLY) == 0)
        return 0;
    say("cannot make %s read-only: %s; freezing it", job->fs->place, strerror(errno));
    remount(job->fs, 0);
    file = open(job->fs->place, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (ioctl(file, FIFREEZE, 0) < 0)
        say("cannot freeze %s: %s", job->fs->place, strerror(errno));
    return 0;
}

/* Everything at once: what is hidden below other mounts, and block devices written to directly. */
static int write_out_all(void *unused)
{
    (void)unused;
    sync();
    return 0;
}

/* Kilobytes that wait in memory to be written, on all disks together. */
static long dirty(void)
{
    FILE *meminfo = fopen("/proc/meminfo", "re");
    char line[128];
    long total = 0, number;

    while (meminfo && fgets(line, sizeof line, meminfo))
        if (sscanf(line, "Dirty: %ld", &number) == 1 ||
            sscanf(line, "Writeback: %ld", &number) == 1)
            total += number;
    if (meminfo)
        fclose(meminfo);
    return total;
}

/* Wait for children until a time, or until nothing has moved for long. */
static void wait_while_moving(struct child *children, size_t count, long until)
{
    size_t running = count, before = count + 1;
    long least = dirty(), moved = now();

    while (running && now() < until && now() < moved + STILL) {
        long left = dirty();

        if (left + 64 <= least || running < before)
            moved = now();
        if (left < least)
            least = left;
        before = running;
        running = wait_children(children, count, now() + SECOND / 2);
    }
}

/* Have md arrays that are idle write `clean` into their superblocks while these can be written;
 * by itself the kernel does so only after a while. array_state_store() in drivers/md/md.c. */
static void settle_arrays(void)
{
    char path[64];
    int any = 0;

    for (int number = 0; number < 128; number++) {
        int file;

        snprintf(path, sizeof path, "/sys/block/md%d/md/array_state", number);
        file = open(path, O_WRONLY | O_CLOEXEC);
        if (file >= 0)
            any |= write(file, "clean", 5) == 5;
        close(file);
    }
    if (any)
        usleep(QUIET_ARRAY);
}

int write_out(void *argument)
{
    static struct file_system found[MOST_FILE_SYSTEMS];
    static struct child children[MOST_FILE_SYSTEMS + 1];
    static struct job jobs[MOST_FILE_SYSTEMS];
    long until = *(long *)argument;
    size_t count = list(found, MOST_FILE_SYSTEMS);

    read_only = mmap(NULL, sizeof found / sizeof *found * sizeof *read_only,
                     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (read_only == MAP_FAILED)
        return 1;
    for (size_t i = 0; i < count; i++) {
        jobs[i] = (struct job){&found[i], &read_only[i]};
        if (start_child(&children[i], write_out_one, &jobs[i]) < 0)
            write_out_one(&jobs[i]);
    }
    if (start_child(&children[count], write_out_all, NULL) < 0)
        write_out_all(NULL);
    wait_while_moving(children, count + 1, until);
    /* Those mounted later first: they may lie in a file of an earlier one. */
    for (size_t i = count; i-- > 0;) {
        struct child child = {0};

        if (children[i].running || read_only[i] || !found[i].on_block_device)
            continue;
        if (start_child(&child, freeze_one, &jobs[i]) < 0)
            freeze_one(&jobs[i]);
        wait_children(&child, 1, now() + FREEZE_TIME);
    }
    settle_arrays();
    return 0;
}

static int shut_down_one(void *argument)
{
    struct file_system *fs = argument;
    __u32 flags = WITHOUT_LOG_FLUSH;

    /* It takes effect at once, and then may wait for ever to write the journal's superblock. */
    return ioctl(open(fs->place, O_RDONLY | O_CLOEXEC | O_NONBLOCK), SHUT_DOWN, &flags);
}

void shut_down_file_systems_on(dev_t device)
{
    static struct file_system found[MOST_FILE_SYSTEMS];
    static struct child children[MOST_FILE_SYSTEMS];
    size_t count = list(found, MOST_FILE_SYSTEMS), started = 0;

    for (size_t i = 0; i < count; i++)
        if (stands_on(found[i].device, device) &&
            start_child(&children[started], shut_down_one, &found[i]) == 0)
            started++;
    wait_children(children, started, now() + SHUT_DOWN_TIME);
}
