/* Seals: no device-mapper device keeps a key. What the stage does too, cruder.
 *
 * The key is wiped before anything is done that lets I/O go on, since a file system that sees
 * errors may panic. Suspended without freezing: write_out() has made file systems read-only or has
 * frozen them itself, so nothing is thawed when a device is resumed. A sealed device stays
 * suspended, unless reboot(2) would wait for what stands on it. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LOOK_TIME (2 * SECOND)
#define HASTY_TIME (SECOND * 3 / 10) /* for a look, and for suspending, at once */
#define SUSPEND_TIME (3 * SECOND)
#define ERROR_TIME (SECOND)

/* Shared with the children, which fill it in: each works on its own device only. */
static struct sealing {
    struct dm_device dm;
    int sealed;
    const char *doing; /* where it hangs, if it does */
} *all;
static size_t count;
static struct child children[MOST_DEVICES];

static int has_key(const struct sealing *one)
{
    return one->dm.crypt || one->dm.keyed_otherwise || one->dm.inactive;
}

static int look_at(void *argument)
{
    struct sealing *one = argument;

    come_first(); /* the stage, which starts meanwhile, may have the same processor */
    return dm_look(&one->dm);
}

/* Look at all devices side by side: asking a thin device can hang behind its pool. */
static void look(long patience)
{
    for (size_t i = 0; i < count; i++) {
        all[i].dm.seen = 0;
        if (start_child(&children[i], look_at, &all[i]) < 0)
            look_at(&all[i]);
    }
    wait_children(children, count, now() + patience);
}

static int let_errors_flow(struct sealing *one)
{
    one->doing = "put an error table into it";
    if (dm_load_error(one->dm.device, one->dm.sectors) < 0 || dm_resume(one->dm.device) < 0) {
        say("cannot %s: %s: %s", one->doing, one->dm.name, strerror(errno));
        return -1;
    }
    return 0;
}

/* Do what needs no I/O to fail. -1 and errno if it cannot be. */
static int wipe(struct sealing *one)
{
    one->doing = "clear its inactive table";
    if (one->dm.inactive && dm_clear(one->dm.device) < 0)
        return -1;
    one->doing = "suspend it";
    if ((one->dm.crypt || one->dm.keyed_otherwise) && dm_suspend(one->dm.device) < 0)
        return -1;
    one->doing = "wipe its key";
    return one->dm.crypt ? dm_wipe_keys(one->dm.device) : 0;
}

static int wipe_aside(void *argument)
{
    struct sealing *one = argument;

    come_first();
    one->sealed = wipe(one) >= 0;
    return !one->sealed;
}

static int seal_one(void *argument)
{
    struct sealing *one = argument;

    if (wipe(one) < 0) {
        say("cannot %s: %s: %s", one->doing, one->dm.name, strerror(errno));
        return 1;
    }
    if (one->dm.keyed_otherwise) { /* there is no message for these: the table has to go */
        shut_down_file_systems_on(one->dm.device);
        if (let_errors_flow(one) < 0)
            return 1;
    }
    one->sealed = 1;
    return 0;
}

static int let_errors_flow_aside(void *argument)
{
    return let_errors_flow(argument);
}

static int shut_down_aside(void *argument)
{
    shut_down_file_systems_on(((struct sealing *)argument)->dm.device);
    return 0;
}

static void bounded(int (*act)(void *), struct sealing *one, long milliseconds)
{
    struct child child;

    if (start_child(&child, act, one) < 0)
        act(one);
    else
        wait_children(&child, 1, now() + milliseconds);
}

/* A suspend waits for the I/O in flight. Where that is never answered, have it fail: put error
 * tables into the devices below, the lowest first, until the suspend comes back. File systems
 * above give up before, so that none panics while the key is still there. */
static void free_from_below(size_t stuck, long until)
{
    struct sealing *one = &all[stuck];
    int done[MOST_DEVICES] = {0};

    say("%s: cannot %s: freeing what is below", one->dm.name,
        one->doing ? one->doing : "begin with it");
    bounded(shut_down_aside, one, SECOND);
    for (;;) {
        size_t lowest = count;

        for (size_t i = 0; i < count; i++)
            if (i != stuck && !done[i] && stands_on(one->dm.device, all[i].dm.device) &&
                (lowest == count || stands_on(all[lowest].dm.device, all[i].dm.device)))
                lowest = i;
        reap(children, count);
        if (lowest == count || !children[stuck].running || now() >= until)
            return;
        done[lowest] = 1;
        say("%s: its I/O fails from now on", all[lowest].dm.name);
        bounded(shut_down_aside, &all[lowest], SECOND);
        bounded(let_errors_flow_aside, &all[lowest], ERROR_TIME);
        wait_children(&children[stuck], 1, now() + ERROR_TIME);
    }
}

/* Whether a device stands on one that is yet to be sealed: I/O in flight to a suspended one would
 * keep it from being suspended itself. */
static int must_wait(size_t upper, const int *tried)
{
    for (size_t i = 0; i < count; i++)
        if (i != upper && has_key(&all[i]) && !tried[i] &&
            stands_on(all[i].dm.device, all[upper].dm.device))
            return 1;
    return 0;
}

static void seal_all(long until)
{
    int tried[MOST_DEVICES] = {0};

    for (;;) {
        int now_sealing[MOST_DEVICES] = {0};
        size_t started = 0;

        memset(children, 0, sizeof children);
        for (size_t i = 0; i < count; i++)
            now_sealing[i] = has_key(&all[i]) && !tried[i] && !must_wait(i, tried);
        for (size_t i = 0; i < count; i++) {
            if (!now_sealing[i])
                continue;
            started++;
            tried[i] = 1;
            if (start_child(&children[i], seal_one, &all[i]) < 0)
                seal_one(&all[i]);
        }
        if (!started)
            return;
        wait_children(children, count, now() + SUSPEND_TIME);
        for (size_t i = 0; i < count; i++)
            if (children[i].running)
                free_from_below(i, until);
        wait_children(children, count, now() + SECOND / 2);
    }
}

/* See to it that reboot(2) waits for nobody who waits for a suspended device. */
static void unblock_reboot(void)
{
    for (size_t i = 0; i < count; i++)
        if (all[i].sealed && all[i].dm.crypt && reboot_waits_for(all[i].dm.device)) {
            bounded(shut_down_aside, &all[i], SECOND);
            bounded(let_errors_flow_aside, &all[i], SUSPEND_TIME);
        }
}

/* Memory that children see too; NULL if there is none. */
static void *map(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* List all devices; how many there are, -1 and errno if that cannot be seen. */
static int list(int *more)
{
    struct dm_device *found = map(MOST_DEVICES * sizeof *found);
    int listed = found ? dm_list(found, MOST_DEVICES, more) : -1;

    if (listed < 0)
        return -1;
    all = map(((size_t)listed + 1) * sizeof *all);
    if (!all)
        return -1;
    count = (size_t)listed;
    for (size_t i = 0; i < count; i++)
        all[i].dm = found[i];
    return listed;
}

int wipe_at_once(void *unused)
{
    struct stat root = {0};
    int tried[MOST_DEVICES] = {0};
    size_t wiped = 0, keyed = 0;
    int more, unseen = stat("/", &root) < 0 || major(root.st_dev) == 0; /* as that of btrfs is */

    (void)unused;
    come_first();
    if (list(&more) < 0)
        return 1; /* there is none, or seal() will say why */
    look(HASTY_TIME);
    for (size_t i = 0; i < count; i++)
        tried[i] = !all[i].dm.crypt && !all[i].dm.inactive; /* no message reaches these */
    for (int last = 0; last <= 1; last++) {
        size_t started = 1;

        while (started) {
            int chosen[MOST_DEVICES] = {0};

            started = 0;
            memset(children, 0, sizeof children);
            for (size_t i = 0; i < count; i++)
                chosen[i] = !tried[i] && !must_wait(i, tried) &&
                            (last || unseen || !stands_on(root.st_dev, all[i].dm.device));
            for (size_t i = 0; i < count; i++)
                if (chosen[i]) {
                    tried[i] = 1;
                    started += start_child(&children[i], wipe_aside, &all[i]) == 0;
                }
            wait_children(children, count, now() + HASTY_TIME);
        }
    }
    for (size_t i = 0; i < count; i++) {
        keyed += all[i].dm.crypt || all[i].dm.inactive;
        wiped += all[i].sealed;
    }
    say("wiped the keys of %zu of %zu devices at once", wiped, keyed);
    return 0;
}

int seal(void *argument)
{
    long until = *(long *)argument;
    int listed, more, left = 0;

    listed = list(&more);
    if (listed < 0) {
        if (errno != ENOENT && errno != ENXIO && errno != ENODEV && errno != EBADF)
            say("A KEY MAY REMAIN IN MEMORY: cannot list the devices: %s", strerror(errno));
        return errno == ENOENT || errno == ENXIO || errno == ENODEV || errno == EBADF ? 0 : 1;
    }
    if (more) {
        say("A KEY MAY REMAIN IN MEMORY: there are more than %d devices", listed);
        left++;
    }
    look(LOOK_TIME);
    seal_all(until);
    unblock_reboot();

    /* What counts is what is there now. */
    look(LOOK_TIME);
    for (size_t i = 0; i < count; i++) {
        if (all[i].sealed && !all[i].dm.inactive && !all[i].dm.keyed_otherwise)
            say("wiped the key of %s", all[i].dm.name);
        else if (has_key(&all[i]) || (!all[i].dm.seen && all[i].sealed)) {
            say("A KEY MAY REMAIN IN MEMORY: %s: cannot %s", all[i].dm.name,
                all[i].doing ? all[i].doing : "see to it");
            left++;
        }
    }
    return left;
}
