/* Overwrites free memory: takes it, all of it, and so makes the kernel clear each page.
 *
 * A page that a process writes to for the first time is cleared by the kernel, since it may hold
 * what another process left. That is the overwriting; a memset on top would only take as long
 * again. One worker a processor, pinned to it, so that on a machine with several nodes each mostly
 * clears memory near to it.
 *
 * Free pages do not only lie in the common pool: each processor has lists of its own (struct
 * per_cpu_pages), which nobody else can take from. So all workers go on until memory is exhausted
 * for each of them. How they know: each offers some clean pages of its own to be taken back, and
 * when the kernel has taken most of these, there was nothing else. What a worker took stays taken,
 * since it belongs to objects that the supervisor, this process, maps too.
 *
 * Some pages may be free even then. When the common pool is empty, or only counts as empty, nobody
 * gets what is left in the lists of his own processor: zone_watermark_fast() in mm/page_alloc.c. So
 * in the end a last worker has all lists emptied into the pool, and goes on in the same way. Then
 * all is given back.
 *
 * Somebody else may want memory just then: the stage, a kernel thread. They take what is on offer.
 * Should that not do, who asks for more is killed (vm.oom_kill_allocating_task), if he may be: a
 * worker. And there is ballast: processes that hold a little memory and wait, the first choice of
 * the OOM killer, which has the kernel panic where it finds nobody.
 *
 * Who runs this sees to it that exhaustion is no panic (vm.panic_on_oom), and that all that is
 * free can be had (vm.min_free_kbytes and others): finalstage/scrub.py. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_WORKERS 1024
#define PIECE (2UL << 20) /* a huge page, where there are any */
#define BALLASTS 3
#define BALLAST (1UL << 20)
#define OFFER (1UL << 20) /* by each worker */
#define GIVEN_BACK (16UL << 20) /* before more is said */
#define FEW (3UL << 20)   /* for each worker, more than a piece: from here on page by page */
#define EARLY_LEAVES 8                /* a share of all memory */
#define EARLY_LEAST (64UL << 20)
#define EARLY_TICK (20 * 1000 * 1000) /* nanoseconds */

#ifndef MADV_POPULATE_WRITE /* since Linux 5.14, not in musl's headers yet */
#define MADV_POPULATE_WRITE 23
#endif

/* A worker: its process, the memory that it takes, and how much of that it has by now, which is
 * the only thing that it writes and another process reads. */
struct worker {
    pid_t process;
    char *memory;
    volatile unsigned long *taken;
};

static struct worker workers[MOST_WORKERS];

static double seconds_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Take memory that all processes share, without having any of it yet. */
static void *reserve(unsigned long size, int flags)
{
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

/* How likely the OOM killer chooses this process. One that cannot say so must not exhaust
 * memory: it has inherited that it is never killed. */
static void be_expendable(const char *how_much)
{
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (score < 0 || write(score, how_much, strlen(how_much)) < 0)
        _exit(1);
    close(score);
}

static void be_ballast(volatile int *ready)
{
    char *memory;

    be_expendable("1000");
    memory = reserve(BALLAST, MAP_PRIVATE);
    if (memory == MAP_FAILED)
        _exit(1);
    memset(memory, 1, BALLAST);
    mlock(memory, BALLAST);
    __atomic_add_fetch(ready, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause();
}

/* Have the kernel clear a piece of memory; false if there is none left. */
static int take(char *piece)
{
    if (madvise(piece, PIECE, MADV_POPULATE_WRITE) == 0)
        return 1;
    if (errno != EINVAL)
        return 0;
    for (size_t at = 0; at < PIECE; at += 4096)
        ((volatile char *)piece)[at] = 0;
    return 1;
}

/* How much of an offer was not taken back yet; all of it if that cannot be seen. */
static size_t pages_there(void *offer)
{
    static unsigned char there[OFFER / 4096];
    size_t count = 0;

    if (mincore(offer, OFFER, there) < 0)
        return sizeof there;
    for (size_t i = 0; i < sizeof there; i++)
        count += there[i] & 1;
    return count;
}

/* Let the kernel take back what it is offered, clean, as soon as it needs memory. */
static int put_on_offer(char *offer)
{
    memset(offer, 0, OFFER);
    return madvise(offer, OFFER, MADV_FREE);
}

/* Take page by page what is left, until most of what is on offer had to be taken back for it. */
static void take_rest(char *memory, unsigned long most, char *offer, volatile unsigned long *taken)
{
    for (; *taken < most; *taken += 4096) {
        memory[*taken] = 0;
        if (*taken % (16 * 4096) == 0 && pages_there(offer) < OFFER / 4096 / 4)
            return;
    }
}

static int is_plenty(unsigned long few)
{
    struct sysinfo info;

    return sysinfo(&info) == 0 && info.freeram * info.mem_unit > few;
}

static void work(int processor, unsigned long most, unsigned long few, const struct worker *self,
                 volatile int *ready)
{
    struct timespec moment = {.tv_nsec = 1000 * 1000};
    char *offer = reserve(OFFER, MAP_PRIVATE);
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET(processor, &here);
    sched_setaffinity(0, sizeof here, &here);
    be_expendable("0");
    if (offer == MAP_FAILED)
        _exit(1);
    madvise(offer, OFFER, MADV_NOHUGEPAGE);
    if (put_on_offer(offer) < 0)
        _exit(1);
    /* What has been cleared needs no place in a swap area that would not close. */
    mlock2(self->memory, most, MLOCK_ONFAULT);
    while (*self->taken < most && is_plenty(few) && take(self->memory + *self->taken))
        *self->taken += PIECE;
    while (*ready == 0)
        nanosleep(&moment, NULL);
    take_rest(self->memory, most, offer, self->taken);
    _exit(0);
}

/* Wait for any child to end, until a time; its process number, 0 if none has, -1 if none is left. */
static pid_t next_end(double until, int *status)
{
    sigset_t children;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    for (;;) {
        double left = until - seconds_now();
        struct timespec time = {.tv_sec = (time_t)left,
                                .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
        pid_t ended = waitpid(-1, status, WNOHANG);

        if (ended != 0 || left <= 0)
            return ended;
        sigtimedwait(&children, NULL, &time);
    }
}

static int is_worker(pid_t process, int count)
{
    for (int i = 0; i < count; i++)
        if (workers[i].process == process)
            return 1;
    return 0;
}

/* Have all that is free put where everybody can take it from, and counted. For that it is asked for
 * a piece so large that it has nothing else to try: __alloc_pages_direct_reclaim(). */
static void gather(void)
{
    set_number("/proc/sys/vm/nr_hugepages", "1");
    set_number("/proc/sys/vm/nr_hugepages", "0");
    set_number("/proc/sys/vm/stat_refresh", "1");
}

static void squeeze(unsigned long most)
{
    volatile unsigned long taken = 0;
    char *offer = reserve(OFFER, MAP_PRIVATE), *memory = reserve(most, MAP_PRIVATE);

    be_expendable("0");
    if (offer == MAP_FAILED || memory == MAP_FAILED)
        _exit(1);
    /* A page that is to be moved to another list is not free while a processor collects such. To
     * move none to another node has all of them go on: lru_cache_disable() in mm/swap.c. */
    syscall(SYS_move_pages, 0, 0UL, NULL, offer, NULL, 0);
    madvise(offer, OFFER, MADV_NOHUGEPAGE);
    madvise(memory, most, MADV_NOHUGEPAGE);
    mlock2(memory, most, MLOCK_ONFAULT);
    if (put_on_offer(offer) < 0)
        _exit(1);
    gather();
    put_on_offer(offer); /* again: to gather has taken some of it */
    take_rest(memory, most, offer, &taken);
    _exit(taken == most);
}

/* Have what the workers could not get taken too; false if that was not all, or took too long. */
static int take_last(size_t most, double until)
{
    pid_t last = fork();
    pid_t ended;
    int status;

    if (last == 0)
        squeeze(most);
    if (last < 0)
        return 0;
    do
        ended = next_end(until, &status);
    while (ended > 0 && ended != last);
    return ended == last && status == 0;
}

static int start_ballast(pid_t *ballasts, volatile int *ready)
{
    for (int i = 0; i < BALLASTS; i++) {
        ballasts[i] = fork();
        if (ballasts[i] == 0)
            be_ballast(ready);
        if (ballasts[i] < 0)
            return -1;
    }
    return 0;
}

/* Take what is free now, and keep it: that is then done when the rest is to be overwritten. */
static int take_early(void *name)
{
    struct sysinfo info;
    unsigned long most, left, taken = 0;
    char *memory;

    *(char *)name = '@'; /* like a storage daemon: the stage does not end it */
    be_expendable("1000");
    if (sysinfo(&info) < 0)
        return 1;
    most = info.totalram * info.mem_unit / PIECE * PIECE;
    left = most / EARLY_LEAVES > EARLY_LEAST ? most / EARLY_LEAVES : EARLY_LEAST;
    memory = reserve(most + PIECE, MAP_PRIVATE);
    if (memory == MAP_FAILED)
        return 1;
    memory += PIECE - (unsigned long)memory % PIECE;
    madvise(memory, most, MADV_HUGEPAGE);
    for (;;) {
        struct timespec moment = {.tv_nsec = EARLY_TICK};

        while (taken < most && sysinfo(&info) == 0 && info.freeram * info.mem_unit > left + PIECE &&
               take(memory + taken))
            taken += PIECE;
        nanosleep(&moment, NULL);
    }
}

static int is_in(const char *path, const char *word)
{
    char text[4096];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = read(file, text, sizeof text - 1);

    close(file);
    if (got < 0)
        return 0;
    text[got] = '\0';
    for (ssize_t at = 0; at < got; at++)
        if (text[at] == '\0') /* between arguments */
            text[at] = '=';
    return strstr(text, word) != NULL;
}

/* Nothing is taken where swap may have to be read back, or nothing is encrypted. */
void scrub_early(char *name)
{
    struct child child;
    cpu_set_t all;

    if (access("/sys/module/dm_crypt", F_OK) < 0 || is_in("/proc/swaps", "/") ||
        is_in("/proc/cmdline", "init_on_free=1") || is_in("/proc/cmdline", "finalstage.scrub=n") ||
        is_in("/proc/self/cmdline", "--scrub=n") || sched_getaffinity(0, sizeof all, &all) < 0)
        return;
    /* One processor is left to the stage. It reads their command lines, and so waits for what they do
     * to their memory: to run only when nobody else does would hold it up. */
    for (int processor = 1; processor < CPU_COUNT(&all); processor++)
        start_child(&child, take_early, name);
}

int scrub_memory(const char *seconds)
{
    double until = seconds_now() + strtod(seconds, NULL);
    unsigned long total = 0, most;
    struct sysinfo info;
    sigset_t children;
    cpu_set_t all;
    pid_t ballasts[BALLASTS], ended;
    int count = 0, failed = 0, left, ballast = BALLASTS, status, complete;
    struct {
        volatile unsigned long taken;
        char rest[64 - sizeof(unsigned long)]; /* a cache line each */
    } *counts = reserve(MOST_WORKERS * sizeof *counts, MAP_SHARED);
    volatile int *ready = reserve(sizeof *ready, MAP_SHARED);

    if (counts == MAP_FAILED || ready == MAP_FAILED || sysinfo(&info) < 0 ||
        sched_getaffinity(0, sizeof all, &all) < 0) {
        dprintf(STDOUT_FILENO, "failed: %s\n", strerror(errno));
        return 1;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    if (start_ballast(ballasts, ready) < 0) {
        dprintf(STDOUT_FILENO, "failed: %s\n", strerror(errno));
        return 1;
    }
    most = info.totalram * info.mem_unit / PIECE * PIECE;
    for (int processor = 0; processor < CPU_SETSIZE && count < MOST_WORKERS; processor++) {
        struct worker *worker = workers + count;

        if (!CPU_ISSET(processor, &all))
            continue;
        worker->taken = &counts[count].taken;
        worker->memory = reserve(most + PIECE, MAP_SHARED);
        if (worker->memory == MAP_FAILED)
            continue;
        worker->memory += PIECE - (unsigned long)worker->memory % PIECE;
        worker->process = fork();
        if (worker->process == 0)
            work(processor, most, FEW * CPU_COUNT(&all), worker, ready);
        count += worker->process > 0;
    }
    /* From here on nothing is allocated, and nothing waits behind the workers. */
    mlockall(MCL_CURRENT | MCL_ONFAULT);
    come_first();
    for (left = count; left > 0 && ballast > 0; ) {
        ended = next_end(until, &status);
        if (ended <= 0)
            break;
        if (is_worker(ended, count)) {
            left--;
            failed += WIFEXITED(status) && WEXITSTATUS(status);
        } else {
            ballast--;
        }
    }
    /* The last worker begins with what most of the ballast has held. Some stays: until he has begun
     * there is nobody else to kill. */
    for (int i = 1; i < BALLASTS; i++)
        kill(ballasts[i], SIGKILL);
    while (left == 0 && ballast > 1 && next_end(until, &status) > 0)
        ballast--;
    complete = left == 0 && take_last(most, until);
    kill(ballasts[0], SIGKILL);
    for (int i = 0; i < count; i++) {
        total += *workers[i].taken;
        kill(workers[i].process, SIGKILL);
    }
    /* Said before all is given back: on a large machine that takes a while. What the stage needs
     * meanwhile is given back at once. */
    if (count > 0)
        madvise(workers[0].memory, GIVEN_BACK, MADV_REMOVE);
    if (*ready == 0 && ballast == 0)
        dprintf(STDOUT_FILENO, "failed: it could not be made safe to run out of memory\n");
    else if (count == 0 || failed == count)
        dprintf(STDOUT_FILENO, "failed: no worker could be started\n");
    else
        dprintf(STDOUT_FILENO, "%s %lu\n", complete ? "all" : "part", total);
    return 0;
}
