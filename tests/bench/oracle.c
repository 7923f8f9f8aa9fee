/* Closes by heart what it was told, one thing after the other, by system calls alone: what no
 * program that has to find out what there is can be faster than.
 *
 * It is executed as PID 1, in a tmpfs, like finalstage. What to do stands in the file `plan`:
 * "umount PATH", "remove NAME" of a device-mapper device, "stop NAME" of an array, "detach NAME" of
 * a loop device, a line each. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef STOP_ARRAY /* <linux/raid/md_u.h> needs more than it includes */
#define STOP_ARRAY _IO(9, 0x32)
#endif

static void complain(const char *what, const char *which)
{
    dprintf(1, "oracle: cannot %s %s: %s\n", what, which, strerror(errno));
}

static void enter(void)
{
    static const char *const apis[] = {"dev", "proc", "sys"};
    char from[16];

    if (chdir("/run/initramfs") < 0)
        complain("enter", "/run/initramfs");
    mkdir("oldroot", 0755);
    for (size_t i = 0; i < 3; i++) {
        snprintf(from, sizeof from, "/%s", apis[i]);
        mkdir(apis[i], 0755);
        if (mount(from, apis[i], NULL, MS_MOVE, NULL) < 0)
            complain("move", from);
    }
    if (syscall(SYS_pivot_root, ".", "oldroot") < 0)
        complain("pivot to", ".");
    if (chroot(".") < 0 || chdir("/") < 0)
        complain("enter", "the tree");
}

static int on_device(const char *name, int flags, unsigned long command)
{
    char path[64];
    int fd, failed;

    snprintf(path, sizeof path, "/dev/%s", name);
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        return -1;
    failed = ioctl(fd, command, NULL);
    close(fd);
    return failed;
}

static int remove_mapped(const char *name)
{
    static int control = -1;
    struct dm_ioctl request = {.version = {4, 0, 0}, .data_size = sizeof request};

    if (control < 0)
        control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    snprintf(request.name, sizeof request.name, "%s", name);
    return ioctl(control, DM_DEV_REMOVE, &request);
}

static int unmount(const char *path)
{
    char below[4096];

    snprintf(below, sizeof below, "/oldroot%s", path);
    return umount2(below, 0);
}

int main(void)
{
    char line[4096];
    FILE *plan;

    enter();
    plan = fopen("/plan", "re");
    while (plan && fgets(line, sizeof line, plan)) {
        char *name = strchr(line, ' ');
        int failed = -1;

        if (!name)
            continue;
        *name++ = 0;
        name[strcspn(name, "\n")] = 0;
        errno = EINVAL;
        if (strcmp(line, "umount") == 0)
            failed = unmount(name);
        else if (strcmp(line, "remove") == 0)
            failed = remove_mapped(name);
        else if (strcmp(line, "stop") == 0)
            failed = on_device(name, O_RDONLY | O_EXCL, STOP_ARRAY);
        else if (strcmp(line, "detach") == 0)
            failed = on_device(name, O_RDONLY, LOOP_CLR_FD);
        if (failed < 0)
            complain(line, name);
    }
    dprintf(1, "oracle: done\n");
    reboot(RB_POWER_OFF);
    return 1;
}
