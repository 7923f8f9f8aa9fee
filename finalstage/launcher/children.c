/* Children that do what may hang, and waiting for them in bounded time. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_PAUSE SECOND
#define WITHOUT_SIGNALS 50 /* how often to look where no descriptor tells of SIGCHLD */
#define FORK_PATIENCE (2 * SECOND)

static int signals = -1;

long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec / 1000000;
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
    if (child->pid == 0)
        _exit(act(argument));
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
