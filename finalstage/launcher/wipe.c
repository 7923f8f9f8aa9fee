/* The panic button: no device keeps a key, on a machine that goes on or is switched off.
 *
 * dm-crypt's keys are wiped here, at once: that takes nothing but this program, which is in memory.
 * Meanwhile the stage is started, with the tree as its root in a mount namespace of its own: so
 * nothing that it runs from lies on what is sealed, and nobody else sees a mount come or go. It looks
 * whether all has gone well, frees and wipes what would not be suspended, and does all the rest.
 * Where it does not begin, or does not come to its end, that is done here as the guardian does it.
 *
 * What is said is collected, and written to the caller by a child: his terminal, or his file, may
 * wait for a disk that is sealed by then. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define BEGIN_TIME (3 * SECOND)  /* until the stage runs */
#define STAGE_TIME (20 * SECOND) /* until it has sealed, where a disk does not answer */
#define SEAL_TIME (15 * SECOND)
#define REST_TIME (10 * SECOND) /* for keyrings and files */
#define SCRUB_TIME (35 * SECOND)
#define SHOW_TIME SECOND
#define MOST_WORDS 8

struct order {
    int all, poweroff, scrub, wait;
    const char *devices, *file;
};

static char tree[PATH_MAX];
static int collected = -1, caller = -1;

static int is_word(const char *word, const char *name, const char **value)
{
    size_t length = strlen(name);

    if (strncmp(word, name, length) || word[length] != '=')
        return 0;
    *value = word + length + 1;
    return 1;
}

/* Whether the words make sense. `finalstage wipe-keys` knows more of them, and what targets are. */
static int read_order(char **words, struct order *order)
{
    for (; *words; words++) {
        if (!strcmp(*words, "--all"))
            order->all = 1;
        else if (!strcmp(*words, "--poweroff"))
            order->poweroff = 1;
        else if (!strcmp(*words, "--scrub"))
            order->scrub = 1;
        else if (!strcmp(*words, "--wait"))
            order->wait = 1;
        else if (!strcmp(*words, "--on-file") && words[1])
            order->file = *++words;
        else if (!is_word(*words, "--on-file", &order->file) &&
                 !is_word(*words, "--devices", &order->devices))
            return 0;
    }
    order->wait |= order->file != NULL;
    return order->all == !order->devices && (order->all || !order->wait);
}

static int enter(void *attempt)
{
    int nowhere = open("/dev/null", O_RDONLY | O_CLOEXEC);

    dup2(nowhere, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    if (chdir(tree) < 0 || unshare(CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) {
        say("cannot enter a mount namespace of its own: %s", strerror(errno));
        return 127;
    }
    enter_tree();
    return become_stage(attempt);
}

/* Start the stage. It says what it has to say where we say it. */
static void start(const struct order *order, char **environment, struct child *stage)
{
    static char devices[64 * 1024];
    static char *words[MOST_WORDS] = {"wipe-keys", "--wipe-keys"};
    struct attempt attempt = {.number = 1, .arguments = words, .environment = environment};
    size_t count = 2;

    if (order->devices) {
        snprintf(devices, sizeof devices, "--devices=%s", order->devices);
        words[count++] = devices;
    }
    if (order->poweroff)
        words[count++] = "--poweroff";
    if (order->scrub)
        words[count++] = "--scrub";
    attempt.channel = open_channel();
    if (start_child(stage, enter, &attempt) < 0)
        say("cannot fork: %s", strerror(errno));
    close(attempt.channel);
}

/* Whether the stage has ended and said itself how it went. */
static int has_said(const struct child *stage)
{
    return stage->pid > 0 && !stage->running && WIFEXITED(stage->status) &&
           WEXITSTATUS(stage->status) <= 1;
}

/* Wait until the stage has sealed, or it is clear that it will not. */
static void wait_for_sealing(struct child *stage, struct told *told)
{
    long begun = now();

    while (stage->running && !told->sealed) {
        long until = begun + (told->phase[0] ? STAGE_TIME : BEGIN_TIME);

        if (now() >= until)
            break;
        pause_until(until, stage, 1, told);
    }
    read_channel(told); /* what it said last */
}

static int write_to_caller(void *unused)
{
    static char text[64 * 1024];
    ssize_t got = read(collected, text, sizeof text);

    (void)unused;
    for (ssize_t done = 0, put; done < got; done += put)
        if ((put = write(caller, text + done, got - done)) <= 0)
            return 1;
    return 0;
}

/* Say from now on where nothing can hang. */
static void collect(void)
{
    int ends[2];

    caller = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
        return;
    collected = ends[0];
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
}

/* As aside(), while the stage runs: so its end is noted, whoever reaps it. */
static int beside(struct child *stage, int (*act)(void *), void *argument, long milliseconds)
{
    struct child both[2] = {*stage};
    long until = now() + milliseconds;

    if (start_child(&both[1], act, argument) < 0)
        return act(argument);
    while (both[1].running && now() < until)
        pause_until(until, both, 2, NULL);
    *stage = both[0];
    if (!both[1].running)
        return WIFEXITED(both[1].status) ? WEXITSTATUS(both[1].status) : -1;
    kill(both[1].pid, SIGKILL);
    return -1;
}

/* Returns the exit status. */
static int press(const struct order *order, char **environment)
{
    struct told told = {0};
    struct child stage = {0};
    long until = now() + SEAL_TIME;
    int status = 1;

    collect();
    start(order, environment, &stage);
    come_first(); /* all of this while it starts */
    dm_open();
    if (order->all) {
        beside(&stage, wipe_at_once, NULL, SECOND);
        beside(&stage, write_to_caller, NULL, SHOW_TIME);
        forbid_panics();
    }
    prepare_down();
    wait_for_sealing(&stage, &told);
    if (!told.sealed && order->all) {
        say("sealing without the stage, which would also clear keyrings");
        status = beside(&stage, seal, &until, SEAL_TIME + 2 * SECOND) != 0;
    } else if (!told.sealed && !has_said(&stage)) {
        say("A KEY MAY REMAIN IN MEMORY: the stage did not come to its end");
    }
    until = now() + (order->scrub ? SCRUB_TIME : REST_TIME);
    beside(&stage, write_to_caller, NULL, SHOW_TIME);
    while (stage.running && now() < until) {
        if (!strcmp(told.phase, "done") && until > now() + SECOND)
            until = now() + SECOND; /* it may wait for a disk that is sealed, and never end */
        pause_until(until, &stage, 1, &told);
    }
    if (told.sealed)
        status = has_said(&stage) ? WEXITSTATUS(stage.status) : 0;
    beside(&stage, write_to_caller, NULL, SHOW_TIME);
    if (order->poweroff)
        go_down("poweroff");
    return status;
}

int wipe_keys(char **words, char **environment, int has_tree)
{
    struct order order = {0};
    sigset_t all;

    if (!read_order(words + 1, &order)) {
        say("how it is called: wipe-keys --all [--wait] [--on-file=PATH] [--scrub] [--poweroff]");
        return 2;
    }
    if (geteuid() != 0) {
        say("cannot wipe keys: it takes root; use sudo");
        return 1;
    }
    if (!has_tree || !getcwd(tree, sizeof tree))
        tree[0] = '\0'; /* nowhere: then it is sealed here */
    close_from(STDERR_FILENO + 1);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    set_oom_score("-1000");
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        say("cannot lock memory: %s", strerror(errno));
    if (order.wait) {
        int status = wait_for_trigger(order.file);

        if (status >= 0)
            return status;
    }
    watch_children();
    return press(&order, environment);
}
