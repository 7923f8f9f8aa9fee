/* Device mapper's ioctls: <linux/dm-ioctl.h>, drivers/md/dm-ioctl.c.
 *
 * Devices go by number, since names may hold anything. A table is never asked for, only its
 * status: the key would be in it. */

#define _GNU_SOURCE
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MISC_MAJOR 10
#define OWN_NODE "/dev/.finalstage-guardian-dm"
#define FIRST_SIZE 8192

static int control = -1;
static union {
    struct dm_ioctl head;
    char bytes[256 * 1024];
} buffer;

/* The control device's minor, from /proc/misc. */
static int control_minor(void)
{
    FILE *misc = fopen("/proc/misc", "re");
    char name[64];
    int number, found = -1;

    while (misc && fscanf(misc, "%d %63s", &number, name) == 2)
        if (!strcmp(name, "device-mapper"))
            found = number;
    if (misc)
        fclose(misc);
    return found;
}

void dm_open(void)
{
    int number;

    if (control >= 0)
        return;
    control = open("/dev/" DM_DIR "/" DM_CONTROL_NODE, O_RDWR | O_CLOEXEC);
    if (control >= 0 || (number = control_minor()) < 0)
        return;
    mknod(OWN_NODE, S_IFCHR | 0600, makedev(MISC_MAJOR, number));
    control = open(OWN_NODE, O_RDWR | O_CLOEXEC);
    unlink(OWN_NODE);
}

/* Whether a dm_ioctl was sent and answered. The buffer behind the head is what `prepare` left. */
static int request(unsigned long command, dev_t device, unsigned int flags, size_t size)
{
    unsigned int targets = buffer.head.target_count;

    dm_open();
    memset(&buffer.head, 0, sizeof buffer.head);
    buffer.head.version[0] = DM_VERSION_MAJOR;
    buffer.head.data_size = size;
    buffer.head.data_start = sizeof buffer.head;
    buffer.head.target_count = targets;
    buffer.head.flags = flags | DM_SECURE_DATA_FLAG; /* the kernel wipes its copy */
    if (device) /* huge_encode_dev() in <linux/kdev_t.h> */
        buffer.head.dev = (minor(device) & 0xff) | major(device) << 8 |
                          (minor(device) & ~0xffu) << 12;
    return ioctl(control, command, &buffer);
}

static int simple(unsigned long command, dev_t device, unsigned int flags)
{
    buffer.head.target_count = 0;
    return request(command, device, flags, sizeof buffer.head);
}

/* One that answers with a list: in little memory at first, since the kernel takes as much. */
static int ask(unsigned long command, dev_t device)
{
    size_t size = FIRST_SIZE;

    for (;; size = sizeof buffer) {
        buffer.head.target_count = 0;
        if (request(command, device, DM_NOFLUSH_FLAG, size) < 0)
            return -1;
        if (!(buffer.head.flags & DM_BUFFER_FULL_FLAG) || size == sizeof buffer)
            return 0;
    }
}

/* The `struct dm_target_spec` or list entry that lies at an offset, if all of it does. */
static void *entry(size_t offset, size_t size)
{
    return offset + size <= sizeof buffer ? buffer.bytes + offset : NULL;
}

static dev_t decode(unsigned long long device)
{
    return makedev((device & 0xfff00) >> 8, (device & 0xff) | ((device >> 12) & 0xfff00));
}

int dm_list(struct dm_device *devices, size_t most, int *more)
{
    struct dm_name_list *item;
    size_t count = 0, offset;

    if (ask(DM_LIST_DEVICES, 0) < 0)
        return -1;
    offset = buffer.head.data_start;
    *more = !!(buffer.head.flags & DM_BUFFER_FULL_FLAG);
    while ((item = entry(offset, sizeof *item)) && item->dev) {
        if (count == most) {
            *more = 1;
            break;
        }
        devices[count] = (struct dm_device){.device = decode(item->dev)};
        snprintf(devices[count].name, sizeof devices->name, "%s", item->name);
        count++;
        if (!item->next)
            break;
        offset += item->next;
    }
    return (int)count;
}

/* Ask for the status; find each segment, and call for it. */
static int each_segment(dev_t device, void (*call)(struct dm_target_spec *, void *), void *argument)
{
    size_t offset;

    if (ask(DM_TABLE_STATUS, device) < 0)
        return -1;
    if (!(buffer.head.flags & DM_ACTIVE_PRESENT_FLAG))
        return 0;
    offset = buffer.head.data_start;
    for (unsigned int i = 0; i < buffer.head.target_count; i++) {
        struct dm_target_spec *segment = entry(offset, sizeof *segment);

        if (!segment)
            break;
        call(segment, argument);
        offset = buffer.head.data_start + segment->next;
    }
    if (buffer.head.flags & DM_BUFFER_FULL_FLAG) {
        errno = ENOSPC;
        return -1;
    }
    return 0;
}

static void look_at(struct dm_target_spec *segment, void *argument)
{
    struct dm_device *device = argument;

    device->live = 1;
    device->sectors = segment->sector_start + segment->length;
    device->crypt |= !strcmp(segment->target_type, "crypt");
    /* Integrity may have a key for its hash, and only its table would tell. */
    device->keyed_otherwise |= !strcmp(segment->target_type, "integrity") ||
                               !strcmp(segment->target_type, "default-key") ||
                               !strcmp(segment->target_type, "inlinecrypt");
}

int dm_look(struct dm_device *device)
{
    device->live = device->crypt = device->keyed_otherwise = 0;
    if (each_segment(device->device, look_at, device) < 0)
        return -1;
    device->inactive = !!(buffer.head.flags & DM_INACTIVE_PRESENT_FLAG);
    device->suspended = !!(buffer.head.flags & DM_SUSPEND_FLAG);
    device->seen = 1;
    return 0;
}

int dm_clear(dev_t device)
{
    return simple(DM_TABLE_CLEAR, device, 0);
}

int dm_suspend(dev_t device)
{
    return simple(DM_DEV_SUSPEND, device,
                  DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG);
}

int dm_resume(dev_t device)
{
    return simple(DM_DEV_SUSPEND, device, DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG);
}

int dm_load_error(dev_t device, unsigned long long sectors)
{
    struct dm_target_spec *segment = entry(sizeof buffer.head, sizeof *segment + 8);

    memset(segment, 0, sizeof *segment + 8); /* and its parameters: an empty string */
    segment->length = sectors;
    segment->next = sizeof *segment + 8;
    strcpy(segment->target_type, "error");
    buffer.head.target_count = 1;
    return request(DM_TABLE_LOAD, device, 0, sizeof buffer.head + segment->next);
}

struct starts {
    unsigned long long sector[MOST_SEGMENTS];
    size_t count, too_many;
};

static void keep_start(struct dm_target_spec *segment, void *argument)
{
    struct starts *starts = argument;

    if (strcmp(segment->target_type, "crypt"))
        return;
    if (starts->count < MOST_SEGMENTS)
        starts->sector[starts->count++] = segment->sector_start;
    else
        starts->too_many = 1;
}

int dm_wipe_keys(dev_t device)
{
    static const char words[] = "key wipe";
    static struct starts starts;

    starts.count = starts.too_many = 0;
    if (each_segment(device, keep_start, &starts) < 0)
        return -1;
    for (size_t i = 0; i < starts.count; i++) {
        struct dm_target_msg *message = entry(sizeof buffer.head, sizeof *message + sizeof words);

        /* It reaches the one target at its sector: target_message(). */
        message->sector = starts.sector[i];
        memcpy(message->message, words, sizeof words);
        buffer.head.target_count = 0;
        if (request(DM_TARGET_MSG, device, 0,
                    sizeof buffer.head + sizeof *message + sizeof words) < 0)
            return -1;
    }
    if (starts.too_many) {
        errno = E2BIG;
        return -1;
    }
    return (int)starts.count;
}
