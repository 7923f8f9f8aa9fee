/* Watches over the stage: reaps what it orphans, and goes down without it if it dies, or is not
 * done in time. PID 1 itself never ends, since that would be a panic with the keys in memory. */

#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SECONDS 90
#define GRACE_SECONDS 60 /* what the stage may take beyond its budget, reboot(2) included */
#define SYNC_SECONDS 10
#define REBOOT_SECONDS 30

static long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

/* The stage's whole budget in plain seconds. The stage itself reads more forms of it. */
static long budget(char **arguments)
{
    for (; *arguments; arguments++)
        if (!strncmp(*arguments, "--budget=", 9)) {
            long number = strtol(*arguments + 9, NULL, 10);

            if (number > 0 && number < 24 * 3600)
                return number;
        }
    return DEFAULT_SECONDS;
}

static int asked_for(char **arguments, const char *verb)
{
    for (; *arguments; arguments++)
        if (!strcmp(*arguments, verb))
            return 1;
    return 0;
}

/* Wait until a child ends, at most until a time; reap everything else that ends meanwhile.
 * SIGCHLD is blocked. Returns whether it ended, and how. */
static int wait_for(pid_t child, long until, int *status)
{
    sigset_t children;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    for (;;) {
        struct timespec left = {.tv_sec = until - now()};
        pid_t ended;

        while ((ended = waitpid(-1, status, WNOHANG)) > 0)
            if (ended == child)
                return 1;
        if (ended < 0 && errno == ECHILD)
            return 0;
        if (left.tv_sec <= 0)
            return 0;
        sigtimedwait(&children, NULL, &left);
    }
}

/* Do something that may hang in a child of its own, for a bounded time. */
static void aside(void (*act)(const char *), const char *word, long seconds)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        act(word);
        _exit(0);
    }
    if (child > 0)
        wait_for(child, now() + seconds, &status);
    else
        say("cannot fork to %s: %s", word, strerror(errno));
}

static void write_out(const char *word)
{
    (void)word;
    sync();
}

static void reboot_now(const char *verb)
{
    unsigned int command = !strcmp(verb, "reboot") ? LINUX_REBOOT_CMD_RESTART
                           : !strcmp(verb, "halt") ? LINUX_REBOOT_CMD_HALT
                           : !strcmp(verb, "kexec") ? LINUX_REBOOT_CMD_KEXEC
                                                    : LINUX_REBOOT_CMD_POWER_OFF;

    syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, NULL);
    say("%s failed: %s", verb, strerror(errno));
}

/* A second reboot(2) would wait for a first that hangs; sysrq does not. */
static void sysrq(const char *verb)
{
    int trigger = open("/proc/sysrq-trigger", O_WRONLY);

    if (trigger < 0 || write(trigger, !strcmp(verb, "poweroff") ? "o" : "b", 1) < 0)
        say("sysrq failed: %s", strerror(errno));
    close(trigger);
}

static void go_down(char **arguments)
{
    const char *verb = asked_for(arguments, "reboot")  ? "reboot"
                       : asked_for(arguments, "halt")  ? "halt"
                       : asked_for(arguments, "kexec") ? "kexec"
                                                       : "poweroff";

    aside(write_out, "sync", SYNC_SECONDS);
    aside(reboot_now, verb, REBOOT_SECONDS);
    if (!strcmp(verb, "kexec"))
        aside(reboot_now, "reboot", REBOOT_SECONDS);
    aside(sysrq, verb, REBOOT_SECONDS);
}

/* Become the stage: no signal blocked, none handled, none that would end it before its time. */
static void become_stage(char **arguments, char **environment)
{
    static const int deaf_to[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM,
                                  SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU};
    sigset_t none;

    setsid();
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    for (size_t i = 0; i < sizeof deaf_to / sizeof *deaf_to; i++)
        sigaction(deaf_to[i], &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    arguments[0] = STAGE; /* by this it finds its files where /proc is missing */
    execve(STAGE, arguments, environment);
    say("cannot start the stage: %s", strerror(errno));
    _exit(127);
}

/* Never chosen when memory runs out; the stage inherits it. */
static void be_spared(void)
{
    int score = open("/proc/self/oom_score_adj", O_WRONLY);

    if (score >= 0 && write(score, "-1000", 5) < 0)
        say("cannot be spared by the OOM killer: %s", strerror(errno));
    close(score);
}

void guard_stage(char **arguments, char **environment, int as_pid1)
{
    static char *no_arguments[] = {STAGE, NULL};
    long until = now() + budget(arguments) + GRACE_SECONDS;
    sigset_t all;
    int status = 0;
    pid_t stage;

    if (!arguments[0])
        arguments = no_arguments;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (as_pid1) /* Ctrl-Alt-Del becomes a signal, which is blocked */
        syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF,
                NULL);
    be_spared();
    stage = fork();
    if (stage == 0)
        become_stage(arguments, environment);
    mlockall(MCL_CURRENT);
    if (stage < 0)
        say("cannot fork: %s", strerror(errno));
    else if (!wait_for(stage, until, &status))
        say("the stage is not done in time: going down without it");
    else if (WIFSIGNALED(status))
        say("the stage was killed by signal %d: going down without it", WTERMSIG(status));
    else
        say("the stage ended with status %d: going down without it", WEXITSTATUS(status));
    do
        go_down(arguments);
    while (as_pid1);
}
