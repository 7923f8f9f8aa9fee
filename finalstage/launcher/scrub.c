/* Overwrites free memory: takes it, all of it, and so makes the kernel clear each page.
 *
 * A page that a process writes to for the first time is cleared by the kernel, in clear_page() or
 * clear_huge_page(), since it may hold what another process left. That is the overwriting; a
 * memset on top would only take as long again. One worker a processor, each on its own, so that
 * on a machine with several nodes each mostly clears memory near to it.
 *
 * In the end memory is exhausted, on purpose, and the kernel kills a worker, the first choice of
 * its OOM killer. Then everything that was free has been in some worker's hands, and all stop.
 * Who runs this sees to it that exhaustion is no panic (vm.panic_on_oom), and that all that is
 * free can be had (vm.min_free_kbytes and others): finalstage/scrub.py. */

#define _GNU_SOURCE
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
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_WORKERS 1024
#define PIECE (2UL << 20) /* a huge page, where there are any */
#define END_SECONDS 2     /* for the workers' memory to be free again */

#ifndef MADV_POPULATE_WRITE /* since Linux 5.14, not in musl's headers yet */
#define MADV_POPULATE_WRITE 23
#endif

/* How many bytes each worker has taken, in memory that all share; each in a cache line. */
struct count {
    volatile unsigned long bytes;
    char rest[64 - sizeof(unsigned long)];
};

static double seconds_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Be the first to be killed when memory is exhausted. Whoever cannot say so must not exhaust it. */
static int be_expendable(void)
{
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    int failed = score < 0 || write(score, "1000", 4) != 4;

    close(score);
    return !failed;
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

static void work(int processor, unsigned long most, struct count *count)
{
    cpu_set_t here;
    char *memory;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CPU_ZERO(&here);
    CPU_SET(processor, &here);
    sched_setaffinity(0, sizeof here, &here);
    if (!be_expendable())
        _exit(1);
    memory = mmap(NULL, most + PIECE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        _exit(1);
    memory += PIECE - (unsigned long)memory % PIECE;
    /* What has been cleared needs no place in a swap area that would not close. */
    mlock2(memory, most, MLOCK_ONFAULT);
    for (; count->bytes < most && take(memory + count->bytes); count->bytes += PIECE)
        ;
    _exit(0);
}

/* Wait for any worker to end, until a time; false if none has. */
static int one_ended(double until, int *status)
{
    sigset_t children;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    for (;;) {
        double left = until - seconds_now();
        struct timespec time = {.tv_sec = (time_t)left,
                                .tv_nsec = (long)((left - (double)(time_t)left) * 1e9)};
        pid_t ended = waitpid(-1, status, WNOHANG);

        if (ended != 0)
            return ended > 0;
        if (left <= 0)
            return 0;
        sigtimedwait(&children, NULL, &time);
    }
}

int scrub_memory(const char *seconds)
{
    double started = seconds_now();
    double patience = strtod(seconds, NULL);
    unsigned long total = 0, most;
    struct sysinfo info;
    sigset_t children;
    cpu_set_t all;
    pid_t workers[MOST_WORKERS];
    int count = 0, failed = 0, status, exhausted;
    struct count *counts = mmap(NULL, MOST_WORKERS * sizeof *counts, PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (counts == MAP_FAILED || sysinfo(&info) < 0 || sched_getaffinity(0, sizeof all, &all) < 0) {
        dprintf(STDOUT_FILENO, "failed: %s\n", strerror(errno));
        return 1;
    }
    most = info.totalram * info.mem_unit / PIECE * PIECE;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int processor = 0; processor < CPU_SETSIZE && count < MOST_WORKERS; processor++) {
        if (!CPU_ISSET(processor, &all))
            continue;
        workers[count] = fork();
        if (workers[count] == 0)
            work(processor, most, counts + count);
        count += workers[count] > 0;
    }
    do
        exhausted = one_ended(started + patience, &status);
    while (exhausted && WIFEXITED(status) && WEXITSTATUS(status) && ++failed < count);
    for (int i = 0; i < count; i++) {
        total += counts[i].bytes;
        kill(workers[i], SIGKILL);
    }
    /* Said before the memory is given back: on a large machine that takes a while. */
    if (failed == count)
        dprintf(STDOUT_FILENO, "failed: no worker could be started\n");
    else
        dprintf(STDOUT_FILENO, "%s %lu\n", exhausted ? "all" : "part", total);
    while (one_ended(seconds_now() + END_SECONDS, &status))
        ;
    return 0;
}
