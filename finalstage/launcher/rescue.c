/* What the guardian does when the stage could not: end all processes, write out, seal. Each step
 * is a child with a bound, and none is needed for the next. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KILL_TIME (3 * SECOND)
#define WRITE_TIME (5 * SECOND) /* and longer while data still moves */
#define SEAL_TIME (15 * SECOND)
#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */
#define MOST_OURS 32
#define PATIENT_ROUNDS 10 /* of 10 ms, for a daemon that just waits for its disk */

struct process {
    pid_t pid, parent;
    char state;
    unsigned long flags;
};

/* Read /proc/PID/stat. The name stands in brackets and may itself hold any character. */
static int read_process(pid_t pid, struct process *process)
{
    char path[40], text[512];
    char *fields;
    ssize_t got;
    int file;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    got = read(file, text, sizeof text - 1);
    close(file);
    if (got <= 0)
        return -1;
    text[got] = '\0';
    fields = strrchr(text, ')');
    process->pid = pid;
    return fields && sscanf(fields + 1, " %c %d %*d %*d %*d %*d %lu", &process->state,
                            &process->parent, &process->flags) == 3 ? 0 : -1;
}

/* Whether argv[0] begins with @: storage needs it to the end (systemd, "Storage Daemons for the
 * Root File System"). Reading it can hang, for a process that hangs itself; so not for those. */
static int is_storage_daemon(const struct process *process)
{
    char path[40], first = 0;
    struct stat owner;
    int file;

    if (process->state == 'D')
        return 0;
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)process->pid);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &owner) < 0 || owner.st_uid != 0 || read(file, &first, 1) < 0)
        first = 0;
    close(file);
    return first == '@';
}

static int kill_processes(void *guardian)
{
    int stopped;
    pid_t ours[MOST_OURS] = {1, getpid()};
    size_t count = 2;
    long until = now() + KILL_TIME - SECOND / 2;
    struct process process = {.parent = *(pid_t *)guardian};

    come_first();
    /* At one stroke, so that nobody forks meanwhile; spares PID 1 and the caller: kill(2). */
    stopped = *(pid_t *)guardian == 1 && kill(-1, SIGSTOP) == 0;
    do
        ours[count++] = process.parent;
    while (count < MOST_OURS && process.parent > 1 && read_process(process.parent, &process) == 0);
    for (int round = 0;; round++) {
        DIR *directory = opendir("/proc");
        struct dirent *entry;
        int killed = 0;

        if (!directory)
            return 1;
        while ((entry = readdir(directory))) {
            pid_t pid = atoi(entry->d_name);
            int spared = 0;

            for (size_t i = 0; i < count; i++)
                spared |= pid == ours[i];
            if (pid <= 0 || spared || read_process(pid, &process) < 0 || process.state == 'Z' ||
                process.state == 'X' || process.flags & PF_KTHREAD)
                continue;
            /* Some are in state D for a moment only: those are looked at again first. */
            if ((process.state == 'D' && round < PATIENT_ROUNDS) || is_storage_daemon(&process)) {
                killed += process.state == 'D';
                if (stopped && process.state != 'D')
                    kill(pid, SIGCONT);
                continue;
            }
            if (kill(pid, SIGKILL) == 0)
                killed += process.state != 'D'; /* else it ends when its call does, if ever */
        }
        closedir(directory);
        if (!killed || now() > until)
            return killed > 0;
        usleep(10000);
    }
}

int end_processes(void)
{
    pid_t guardian = getpid();

    return aside("end all processes", kill_processes, &guardian, KILL_TIME);
}

static int end_everybody(void *unused)
{
    (void)unused;
    return kill(-1, SIGKILL); /* all but PID 1 and the caller: kill(2) */
}

void rescue(const struct told *told, pid_t stage, long until)
{
    int left;
    long write_until = now() + WRITE_TIME, seal_until;

    use_last_memory();
    if (stage)
        kill(stage, SIGKILL);
    if (end_processes() && getpid() == 1)
        aside("end all processes at once", end_everybody, NULL, SECOND);
    aside("make room", make_room, NULL, SECOND);
    if (!told->sealed) {
        if (write_until < until - SEAL_TIME)
            write_until = until - SEAL_TIME;
        aside("write out all file systems", write_out, &write_until,
              write_until - now() + 2 * SECOND);
    }
    if (left_out.seal) {
        say("A KEY MAY REMAIN IN MEMORY: sealing was left out");
        return;
    }
    seal_until = now() + SEAL_TIME;
    left = aside("seal", seal, &seal_until, SEAL_TIME + 2 * SECOND);
    if (left < 0)
        say("A KEY MAY REMAIN IN MEMORY: sealing did not come to its end");
}
