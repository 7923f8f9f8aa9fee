/* Children that do what may hang, and waiting for them in bounded time. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_PAUSE SECOND
#define WITHOUT_SIGNALS 50 /* how often to look where no descriptor tells of SIGCHLD */
#define FORK_PATIENCE (2 * SECOND)
#define VICTIMS 4
#define MOST_HELD ((size_t)1 << 20) /* bytes by each: more than a child that works needs */
#define SHARE 16                    /* of what is free, at most */

static int signals = -1;

long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec / 1000000;
}

void set_number(const char *path, const char *number)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);

    if (file >= 0 && write(file, number, strlen(number)) < 0)
        say("cannot set %s: %s", path, strerror(errno));
    close(file);
}

void set_oom_score(const char *score)
{
    set_number("/proc/self/oom_score_adj", score);
}

void come_first(void)
{
    struct sched_param first = {.sched_priority = 1};

    if (syscall(SYS_sched_setscheduler, 0, SCHED_RR | SCHED_RESET_ON_FORK, &first) < 0)
        setpriority(PRIO_PROCESS, 0, -20);
}

long free_memory(void)
{
    static const char name[] = "MemAvailable:";
    char text[1024], *found = NULL;
    int file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t got = read(file, text, sizeof text - 1);

    close(file);
    if (got > 0) {
        text[got] = '\0';
        found = strstr(text, name);
    }
    return found ? strtol(found + sizeof name - 1, NULL, 10) : 0;
}

static size_t held;

static int hold_memory(void *name)
{
    void *memory = mmap(NULL, held, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    mlock(memory, held);
    *(char *)name = '@'; /* like a storage daemon: the stage does not end it, nor do we */
    pause();             /* for ever: no signal comes through but the one that kills */
    return 0;
}

void keep_victims(char *name)
{
    struct child child;

    held = (size_t)free_memory() * 1024 / SHARE / 4096 * 4096;
    held = held > MOST_HELD ? MOST_HELD : held ? held : 4096;
    for (size_t i = 0; i < VICTIMS; i++)
        start_child(&child, hold_memory, name);
}

void use_last_memory(void)
{
    set_number("/proc/sys/vm/min_free_kbytes", "256");
}

void forbid_panics(void)
{
    /* Documentation/admin-guide/sysctl/kernel.rst and vm.rst. */
    static const char *const settings[] = {
        "kernel/hardlockup_panic", "kernel/hung_task_panic",     "kernel/panic_on_io_nmi",
        "kernel/panic_on_oops",    "kernel/panic_on_rcu_stall",  "kernel/panic_on_warn",
        "kernel/softlockup_panic", "vm/panic_on_oom",
    };
    char path[64];

    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        snprintf(path, sizeof path, "/proc/sys/%s", settings[i]);
        set_number(path, "0");
    }
}

void watch_children(void)
{
    sigset_t ended;

    sigemptyset(&ended);
    sigaddset(&ended, SIGCHLD);
    signals = signalfd(-1, &ended, SFD_NONBLOCK | SFD_CLOEXEC);
}

int start_child(struct child *child, int (*act)(void *), void *argument)
{
    *child = (struct child){.pid = left_out.fork ? -1 : fork()};
    if (child->pid == 0) {
        set_oom_score("-999");
        _exit(act(argument));
    }
    child->running = child->pid > 0;
    return child->running ? 0 : -1;
}

void reap(struct child *children, size_t count)
{
    int status;
    pid_t ended;

    while ((ended = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < count; i++)
            if (children[i].running && children[i].pid == ended) {
                children[i].running = 0;
                children[i].status = status;
            }
}

void pause_until(long until, struct child *children, size_t count, struct told *told)
{
    struct pollfd events[] = {
        {.fd = signals, .events = POLLIN},
        {.fd = told ? channel() : -1, .events = POLLIN},
    };
    long most = signals < 0 ? WITHOUT_SIGNALS : LONGEST_PAUSE;
    long left = until - now();
    struct signalfd_siginfo signal;

    if (left > watchdog_interval())
        left = watchdog_interval();
    poll(events, 2, left < 0 ? 0 : left > most ? (int)most : (int)left);
    while (read(signals, &signal, sizeof signal) > 0)
        ; /* it only says that somebody has ended */
    if (told)
        read_channel(told);
    reap(children, count);
}

size_t wait_children(struct child *children, size_t count, long until)
{
    for (;;) {
        size_t running = 0;

        reap(children, count);
        for (size_t i = 0; i < count; i++)
            running += children[i].running;
        if (!running || now() >= until)
            return running;
        pause_until(until, children, count, NULL);
    }
}

int aside(const char *what, int (*act)(void *), void *argument, long milliseconds)
{
    struct child child;
    long until = now() + FORK_PATIENCE;

    while (start_child(&child, act, argument) < 0) {
        if (now() >= until) {
            say("cannot fork to %s, so it is done here: %s", what, strerror(errno));
            return act(argument);
        }
        pause_until(now() + SECOND / 10, NULL, 0, NULL);
    }
    until = now() + milliseconds;
    while (child.running && now() < until) {
        watchdog_feed();
        pause_until(until, &child, 1, NULL);
    }
    if (child.running) {
        say("left behind: %s, no answer in %ld s", what, milliseconds / SECOND);
        kill(child.pid, SIGKILL);
        return -1;
    }
    if (WIFSIGNALED(child.status)) {
        say("failed to %s: signal %d", what, WTERMSIG(child.status));
        return -1;
    }
    return WEXITSTATUS(child.status);
}
