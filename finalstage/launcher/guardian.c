/* Watches over the stage: reaps what it orphans, starts it once more if it dies early, and goes
 * down without it if it dies again, falls silent, or is not done in time. PID 1 itself never ends,
 * since that would be a panic with the keys in memory. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE (15 * SECOND)        /* what the stage may take beyond its deadline */
#define SILENCE (15 * SECOND)      /* without a sign of life: then its main thread hangs */
#define PROGRESS (20 * SECOND)     /* how long after a line the watchdog is fed */
#define RESCUE_SHARE 4             /* a fourth of the whole, at most this: */
#define RESCUE_RESERVE (20 * SECOND)
#define SHORTEST_ATTEMPT (10 * SECOND) /* BUDGETS in finalstage/handover/options.py */
#define STAGE_NEEDS (24 << 10)         /* kilobytes */
#define RECORDED_VERB "/verb" /* finalstage/handover/recorded.py */
#define MOST_ARGUMENTS 64
#define MOST_VARIABLES 80

static const char *const OURS[] = {"FINALSTAGE_GUARDIAN=", "FINALSTAGE_ATTEMPT=", NULL};

static const char *const NEAR_THE_END[] = {"report", "keep", "last", "down", NULL};
static const char *const ALL_CLOSED[] = {"closed", "keys", "scrub", "report",
                                         "keep",   "last", "down",  NULL};
static const char *const BEFORE_SEAL[] = {"",        "prepare", "defuse", "start", "kill",   "files",
                                          "unblock", "hooks",   "close",  "lock",  "settle", NULL};

struct left_out left_out;

/* How dinit says it: src/shutdown.cc. */
static const char *verb_by_letter(const char *option)
{
    static const struct {
        const char *option, *verb;
    } known[] = {{"-r", "reboot"}, {"-h", "halt"}, {"-k", "kexec"}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(option, known[i].option))
            return verb_named(known[i].verb);
    return NULL;
}

/* What a hand-over has left in the tree, which is the root by now; NULL if nothing. */
static const char *verb_recorded(void)
{
    char word[16] = "";
    int file = open(RECORDED_VERB, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = read(file, word, sizeof word - 1);

    close(file);
    word[got < 0 ? 0 : got] = '\0';
    word[strcspn(word, " \t\n")] = '\0';
    return verb_named(word);
}

/* What counts if the stage dies before it has told: finalstage/handover knows more ways. */
static const char *verb_in(char **arguments)
{
    const char *verb = NULL;
    int by_dinit = *arguments && arguments[1] && !strcmp(arguments[1], "--system");

    for (; *arguments && !verb; arguments++)
        verb = by_dinit ? verb_by_letter(*arguments) : verb_named(*arguments);
    if (!verb && !by_dinit)
        verb = verb_recorded();
    return verb ? verb : "poweroff";
}

static int is_asked(char **environment, const char *name, const char *value)
{
    size_t length = strlen(name);

    for (; *environment; environment++)
        if (!strncmp(*environment, name, length) && strstr(*environment + length, value))
            return 1;
    return 0;
}

static void read_test_switches(char **environment)
{
    if (!is_asked(environment, "FINALSTAGE_TEST=", "1"))
        return;
    left_out.seal = is_asked(environment, "FINALSTAGE_RESCUE=", "noseal");
    left_out.fork = is_asked(environment, "FINALSTAGE_RESCUE=", "nofork");
    left_out.reboot = is_asked(environment, "FINALSTAGE_RESCUE=", "noreboot");
}

/* No signal blocked, none handled, none that would end it before its time. */
int become_stage(void *argument)
{
    static const int deaf_to[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM,
                                  SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU};
    static char *arguments[MOST_ARGUMENTS + 2], *environment[MOST_VARIABLES + 5];
    static char guardian[40], number[40], rest[40];
    struct attempt *attempt = argument;
    size_t count = 0;
    sigset_t none;

    setsid();
    set_oom_score("-998"); /* before our other children, which are needed when it is dead */
    setpriority(PRIO_PROCESS, 0, -20);
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    for (size_t i = 0; i < sizeof deaf_to / sizeof *deaf_to; i++)
        sigaction(deaf_to[i], &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    arguments[count++] = STAGE; /* by this it finds its files where /proc is missing */
    for (char **each = attempt->arguments + 1; *each && count < MOST_ARGUMENTS; each++)
        arguments[count++] = *each;
    if (attempt->number > 1) {
        snprintf(rest, sizeof rest, "--budget=%ld", attempt->budget / SECOND);
        arguments[count++] = rest; /* the last one counts */
    }
    count = 0;
    for (char **each = attempt->environment; *each && count < MOST_VARIABLES; each++)
        if (strncmp(*each, OURS[0], strlen(OURS[0])) && strncmp(*each, OURS[1], strlen(OURS[1])))
            environment[count++] = *each;
    snprintf(number, sizeof number, "%s%d", OURS[1], attempt->number);
    environment[count++] = number;
    snprintf(guardian, sizeof guardian, "%s%d", OURS[0], attempt->channel);
    if (attempt->channel >= 0)
        environment[count++] = guardian;
    /* PyInstaller's bootloader would execute itself once more, to have LD_LIBRARY_PATH set. So it
     * takes that for done: pyi_main.c, PYI_PROCESS_LEVEL_PARENT_NEEDS_RESTART. */
    environment[count++] = "_PYI_ARCHIVE_FILE=" STAGE;
    environment[count++] = "_PYI_PARENT_PROCESS_LEVEL=-1";
    execve(STAGE, arguments, environment);
    say("cannot start the stage: %s", strerror(errno));
    return 127;
}

/* Whether a process is dead although it cannot be reaped: one of its threads is still in a call
 * that never returns. Its stat says Z then, as that of any dead leader. */
static int is_dead(pid_t pid)
{
    char path[40], stat[256];
    char *state = NULL;
    int file;
    ssize_t got;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    got = read(file, stat, sizeof stat - 1);
    close(file);
    if (got > 0) {
        stat[got] = '\0';
        state = strrchr(stat, ')');
    }
    return state && state[1] && (state[2] == 'Z' || state[2] == 'X');
}

static int is_in(const struct told *told, const char *const *phases)
{
    for (; *phases; phases++)
        if (!strcmp(told->phase, *phases))
            return 1;
    return 0;
}

/* -1 if it cannot be started. */
static int start_stage(struct attempt *attempt, struct child *stage)
{
    if (start_child(stage, become_stage, attempt) < 0) {
        say("cannot fork: %s; ending all processes first", strerror(errno));
        end_processes();
        for (long patience = now() + 2 * SECOND; start_child(stage, become_stage, attempt) < 0;) {
            if (now() >= patience) {
                say("cannot fork: %s", strerror(errno));
                return -1;
            }
            pause_until(now() + SECOND / 10, NULL, 0, NULL); /* reaps what has ended */
        }
    }
    close(attempt->channel);
    return 0;
}

/* Watch the stage until it ends, hangs, or `*until` comes, which it may put off itself. Returns
 * whether it is worth to start it again. */
static int watch_stage(struct attempt *attempt, struct child *stage, struct told *told, long *until)
{
    long silence = SILENCE < (*until - now()) / 4 ? SILENCE : (*until - now()) / 4;
    int first = attempt->number == 1;

    told->alive = 0;
    told->phase[0] = '\0';
    told->heard = now();
    for (;;) {
        long end;

        if (first && told->deadline)
            *until = told->deadline;
        end = *until + GRACE;
        pause_until(end, stage, 1, told);
        if (!stage->running)
            break;
        if (now() >= end) {
            say("the stage is not done in time: going down without it");
            return 0;
        }
        if (told->alive && now() > told->heard + silence) {
            say("the stage gives no sign of life in phase %s", told->phase);
            return 1;
        }
        if (now() > told->heard + SECOND && is_dead(stage->pid)) {
            say("the stage died in phase %s, and a part of it hangs", told->phase);
            return 1;
        }
        if (is_in(told, ALL_CLOSED))
            notify(told->verb, 0);
        if (!strcmp(told->verb, "halt") && is_in(told, NEAR_THE_END))
            watchdog_close(); /* the stage halts the machine itself */
        else if (now() < told->heard + PROGRESS)
            watchdog_feed();
    }
    if (WIFSIGNALED(stage->status))
        say("the stage was killed by signal %d in phase %s", WTERMSIG(stage->status), told->phase);
    else
        say("the stage ended with status %d in phase %s", WEXITSTATUS(stage->status),
            told->phase);
    return WIFSIGNALED(stage->status) || WEXITSTATUS(stage->status) != 127;
}

/* Whether to begin again could only do harm: later on devices may be suspended, and every call to
 * them would hang. */
static int came_far(const struct told *told)
{
    return told->sealed || !is_in(told, BEFORE_SEAL);
}

void guard_stage(char **arguments, char **environment, int as_pid1)
{
    static char *no_arguments[] = {STAGE, NULL};
    static struct told told;
    struct child stage = {0};
    struct attempt attempt = {.arguments = arguments, .environment = environment};
    struct settings settings = read_settings(arguments);
    long whole = settings.budget;
    long until = now() + whole;
    long reserve;
    sigset_t all;
    int started, again;

    if (!arguments[0])
        attempt.arguments = no_arguments;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (as_pid1) /* Ctrl-Alt-Del becomes a signal, which is blocked */
        syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF,
                NULL);
    read_test_switches(environment);
    /* PID 1 is spared in any case, and our children have the score that we have when they begin. */
    set_oom_score(as_pid1 ? "-999" : "-1000");
    watch_children();
    if (free_memory() < STAGE_NEEDS)
        aside("make room", make_room, NULL, SECOND);
    attempt.number = 1;
    attempt.channel = open_channel();
    started = start_stage(&attempt, &stage);

    /* All of this while it starts. */
    come_first();
    forbid_panics();
    prepare_down();
    dm_open();
    told.verb = verb_in(attempt.arguments);
    if (settings.watchdog)
        watchdog_open(told.verb);
    if (as_pid1)
        notify_open(arguments);
    mlockall(MCL_CURRENT | MCL_FUTURE);
    if (arguments[0]) {
        keep_victims(attempt.arguments[0]);
        scrub_early(attempt.arguments[0]);
    }

    again = started == 0 && watch_stage(&attempt, &stage, &told, &until);
    reserve = whole / RESCUE_SHARE < RESCUE_RESERVE ? whole / RESCUE_SHARE : RESCUE_RESERVE;
    attempt.budget = until - now() - reserve;
    if (again && attempt.budget >= SHORTEST_ATTEMPT && !came_far(&told)) {
        if (stage.running) {
            kill(stage.pid, SIGKILL);
            wait_children(&stage, 1, now() + SECOND);
        }
        if (free_memory() < STAGE_NEEDS) { /* or had run out, and this is what its death gave */
            use_last_memory();
            aside("make room", make_room, NULL, SECOND);
        }
        if (!told.phase[0]) /* it could not even start: something forks without end, perhaps */
            end_processes();
        say("starting it once more, with %ld s", attempt.budget / SECOND);
        attempt.number = 2;
        attempt.channel = open_channel();
        if (start_stage(&attempt, &stage) == 0)
            watch_stage(&attempt, &stage, &told, &until);
    }
    do {
        rescue(&told, stage.running ? stage.pid : 0, until);
        go_down(told.verb);
    } while (as_pid1);
}
