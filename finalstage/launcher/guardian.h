/* What the parts of the guardian know of each other. Times are milliseconds of CLOCK_MONOTONIC.
 *
 * PID 1 itself only waits, reads lines, feeds the watchdog and forks. Everything that could hang or
 * crash is done in a child, for a bounded time: see aside(). */

#ifndef FINALSTAGE_GUARDIAN_H
#define FINALSTAGE_GUARDIAN_H

#include <stddef.h>
#include <sys/types.h>

#define SECOND 1000L

/* FINALSTAGE_RESCUE, heard only with FINALSTAGE_TEST=1: what the guardian is to leave out. */
struct left_out {
    int seal, fork, reboot;
};

extern struct left_out left_out;

long now(void);

/* --- settings.c ----------------------------------------------------------------------------- */

/* What is set of the stage's options that the guardian heeds too. */
struct settings {
    long budget; /* of the stage as a whole, which tells its own deadline once it can */
    int watchdog;
};

/* What is said in the tree, on the kernel's command line and in our arguments; the last counts. */
struct settings read_settings(char **arguments);

/* --- channel.c: what the stage tells -------------------------------------------------------- */

struct told {
    const char *verb; /* one of the constants that verb_named() knows, NULL if not told */
    long deadline;    /* 0 if not told */
    long heard;       /* when the last line came */
    int alive;        /* the stage gives signs of life, so that silence means something */
    int sealed;
    char phase[16];
};

/* The constant that equals a word, or NULL. */
const char *verb_named(const char *word);

/* Make the pipe; the number of the end that the stage inherits, -1 if there is none. */
int open_channel(void);

/* The guardian's end, -1 if there is none (any more). */
int channel(void);

/* Take in what the stage has written; whatever makes no sense is ignored. */
void read_channel(struct told *told);

/* --- children.c: what may hang is done in a child ------------------------------------------- */

struct child {
    pid_t pid;
    int running, status;
};

/* Take SIGCHLD from now on from a descriptor; everything else stays blocked. */
void watch_children(void);

/* Fork. In the child, do `act`, and end with its result. -1 if there is no memory for that. */
int start_child(struct child *child, int (*act)(void *), void *argument);

/* Reap everything that has ended, and note it in `children`. */
void reap(struct child *children, size_t count);

/* Reap, take in what the stage says, feed the watchdog, and sleep until something happens, at
 * most until a time. */
void pause_until(long until, struct child *children, size_t count, struct told *told);

/* Write to a file of /proc; one that is not there is left alone, and what fails is said. */
void set_number(const char *path, const char *number);

/* Be killed earlier or later when memory runs out, at -1000 not at all. Our children are the last,
 * but not spared: where nobody is left to kill, the kernel panics (out_of_memory() in
 * mm/oom_kill.c). */
void set_oom_score(const char *score);

/* Run before everybody else, whoever forks or computes without end; our children do not. */
void come_first(void);

/* Kilobytes that can be had without anybody being killed; 0 if that cannot be seen. */
long free_memory(void);

/* Have somebody else there for the kernel to kill when memory runs out: children that hold some
 * and do nothing, each to be killed before any of those that work. `name` is our argv[0]. */
void keep_victims(char *name);

/* Have the kernel use the memory that it keeps back. */
void use_last_memory(void);

/* Have the kernel go on after whatever it was told to panic at: a panic leaves the keys. */
void forbid_panics(void);

/* Wait until all children have ended, at most until a time; how many are still running. */
size_t wait_children(struct child *children, size_t count, long until);

/* Do something in a child, for a bounded time. Its result, -1 if it did not end in time or did not
 * end well. Where even forking fails, it is done here: better a hang than a key. */
int aside(const char *what, int (*act)(void *), void *argument, long milliseconds);

/* --- guardian.c ----------------------------------------------------------------------------- */

struct attempt {
    int number, channel;
    long budget; /* of a second attempt */
    char **arguments, **environment;
};

/* Become the stage, in a child; the argument is a `struct attempt`. Returns 127 if that failed. */
int become_stage(void *attempt);

/* --- rescue.c and what it calls ------------------------------------------------------------- */

/* Do what the stage should have done, cruder: end all processes, write out, seal. Returns by
 * `until`, more or less. */
void rescue(const struct told *told, pid_t stage, long until);

/* End all processes but kernel threads, storage daemons, PID 1, us and who waits for us. Returns
 * soon; 0 if all of them have ended. */
int end_processes(void);

/* Let go of file systems that are only memory, and that nothing is mounted in. */
int make_room(void *unused);

/* Write out every file system, and make read-only (else freeze) those on block devices. The
 * argument is the time by which to be done; goes on longer only while something moves. */
int write_out(void *until);

/* Wipe the key of every device-mapper device. The result is the number of those that may still
 * have one. The argument is the time by which to be done. */
int seal(void *until);

/* Wipe the keys of all dm-crypt devices, those that root stands on last, in some tenths of a second;
 * what cannot be suspended in that time is left. No I/O fails by that: it waits. */
int wipe_at_once(void *unused);

/* Have all file systems that stand on a device give up, so that errors from it panic nobody. */
void shut_down_file_systems_on(dev_t device);

/* --- blocks.c: who stands on whom ----------------------------------------------------------- */

/* Call for each device directly below a block device, until it returns other than 0. */
int each_below(dev_t device, int (*call)(dev_t lower, void *argument), void *argument);

/* Whether one device stands on another, directly or not. */
int stands_on(dev_t upper, dev_t lower);

/* Whether reboot(2) waits for something that stands on this device: an md array (its reboot
 * notifier writes superblocks), bcache or dm-integrity. */
int reboot_waits_for(dev_t device);

/* --- dm.c: the device mapper's ioctls; -1 and errno as usual --------------------------------- */

#define MOST_DEVICES 2048
#define MOST_SEGMENTS 256

struct dm_device {
    dev_t device;
    char name[128];
    int seen; /* all below is known: it has answered */
    int live, inactive, suspended, crypt, keyed_otherwise;
    unsigned long long sectors;
};

/* Open the control device while there still is one; later calls do it if it was too early. */
void dm_open(void);

/* How many were listed; `more` tells whether those are not all. */
int dm_list(struct dm_device *devices, size_t most, int *more);
int dm_look(struct dm_device *device);
int dm_clear(dev_t device);
int dm_suspend(dev_t device);
int dm_load_error(dev_t device, unsigned long long sectors);
int dm_resume(dev_t device);

/* `key wipe` to every crypt segment; how many were wiped, -1 if one was not. */
int dm_wipe_keys(dev_t device);

/* --- watchdog.c ----------------------------------------------------------------------------- */

/* Arm the machine's watchdog, if it has one. */
void watchdog_open(const char *verb);

/* Feed it for the last time: what follows has to be done before it fires. */
void watchdog_feed_last(void);

/* Feed it, if it is time to; how soon it wants to be fed again, in milliseconds. */
void watchdog_feed(void);
long watchdog_interval(void);

/* Disarm it: for a machine that is to stand still for ever. */
void watchdog_close(void);

/* --- notify.c ------------------------------------------------------------------------------- */

/* Connect to who wants to hear how the machine goes down, if there is somebody. Never waits. */
void notify_open(char **arguments);

/* Tell that, once, waiting for as long at most; nothing is lost by calling it again. */
void notify(const char *verb, int milliseconds);

/* --- down.c --------------------------------------------------------------------------------- */

/* Open what is needed in the end, while /proc is there. */
void prepare_down(void);

/* Call reboot(2), and where that does not help, sysrq. Returns only if nothing did. */
void go_down(const char *verb);

#endif
