/* Mounts that the shell of a guest cannot make: one static program.
 *
 *   mounts raw TYPE SOURCE FOLDER OPTIONS   mount(2), and nothing else
 *   mounts autofs FOLDER direct|indirect    mount an autofs whose daemon is there, and never answers
 *   mounts keep             be a storage daemon in a namespace of its own, in which all mounts are
 *                           slaves of ours
 *   mounts hold             be a storage daemon that has open the namespace of a process that ended
 */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* Go on in the background once this is called; who has started us then goes on too. */
static void leave(void)
{
    if (fork() != 0)
        _exit(0);
    setsid();
    if (chdir("/run") < 0)
        _exit(1);
    for (int stream = 0; stream < 3; stream++)
        close(stream);
}

static void stay(void)
{
    for (;;)
        pause();
}

/* Whoever waits for the daemon is in another group of processes. */
static void autofs(const char *folder, const char *kind)
{
    char options[80];
    int ends[2];

    leave();
    if (pipe(ends) < 0)
        _exit(1);
    snprintf(options, sizeof options, "fd=%d,pgrp=%d,minproto=5,maxproto=5,%s", ends[1],
             getpgrp(), kind);
    if (mount("automount", folder, "autofs", 0, options) < 0)
        _exit(1);
    close(ends[1]);
    stay();
}

static void unshare_mounts(unsigned long propagation)
{
    if (unshare(CLONE_NEWNS) < 0)
        err(1, "unshare");
    if (mount(NULL, "/", NULL, MS_REC | propagation, NULL) < 0)
        err(1, "cannot change how mounts propagate");
}

static void hold(void)
{
    int ready[2], done[2];
    char path[40], byte = 0;
    pid_t child;

    if (pipe(ready) < 0 || pipe(done) < 0)
        err(1, "no pipe");
    child = fork();
    if (child == 0) {
        unshare_mounts(MS_PRIVATE);
        if (write(ready[1], "", 1) != 1 || read(done[0], &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", child);
    if (read(ready[0], &byte, 1) != 1 || open(path, O_RDONLY) < 3 || write(done[1], "", 1) != 1)
        err(1, "cannot hold a namespace");
    waitpid(child, NULL, 0);
    leave();
    stay();
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (!strcmp(what, "raw") && argc == 6) {
        if (mount(argv[3], argv[4], argv[2], 0, argv[5]) < 0)
            err(1, "cannot mount %s at %s", argv[3], argv[4]);
    } else if (!strcmp(what, "autofs") && argc == 4) {
        autofs(argv[2], argv[3]);
    } else if (!strcmp(what, "keep")) {
        unshare_mounts(MS_SLAVE);
        leave();
        stay();
    } else if (!strcmp(what, "hold")) {
        hold();
    } else {
        errx(2, "does not know how to %s", what);
    }
    return 0;
}
