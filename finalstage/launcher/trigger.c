/* Waits for the panic button to be pressed from afar: by SIGUSR1, or by a file that is made. */

#define _GNU_SOURCE
#include "launcher.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define WATCHED (IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

/* Whether nobody but root can make a file in a directory, or put another one in its place. Says
 * why not. */
static int is_for_root_alone(const char *directory)
{
    char path[PATH_MAX];
    size_t length = strlen(directory);

    for (size_t end = 1; end <= length; end++) {
        struct stat about;

        if (end < length && directory[end] != '/')
            continue;
        snprintf(path, sizeof path, "%.*s", (int)end, directory);
        if (lstat(path, &about) < 0) {
            say("cannot wait for a file in %s: %s: %s", directory, path, strerror(errno));
            return 0;
        }
        if (!S_ISDIR(about.st_mode) || about.st_uid != 0 || about.st_mode & (S_IWGRP | S_IWOTH)) {
            say("cannot wait for a file in %s: %s %s; have a directory that root alone may write to",
                directory, path,
                !S_ISDIR(about.st_mode) ? "is not a directory"
                : about.st_uid != 0     ? "is not root's"
                                        : "can be written to by others");
            return 0;
        }
    }
    return 1;
}

/* Take a path apart into its directory, without a slash at its end. Says why it cannot be. */
static int find_directory(const char *file, char *directory)
{
    const char *name = strrchr(file, '/');
    struct stat about;

    for (const char *each = file; *each; each++)
        if ((unsigned char)*each < ' ') {
            say("cannot wait for a file with control characters in its name; name another one");
            return 2;
        }
    if (file[0] != '/' || !name[1] || strlen(file) >= PATH_MAX || strstr(file, "//") ||
        strstr(file, "/./") || strstr(file, "/../") || !strcmp(name, "/.") || !strcmp(name, "/..")) {
        say("cannot wait for %s: name a file by its whole path, without . and .. in it", file);
        return 2;
    }
    snprintf(directory, PATH_MAX, "%.*s", name == file ? 1 : (int)(name - file), file);
    if (!is_for_root_alone(directory))
        return 1;
    if (lstat(file, &about) == 0) {
        say("cannot wait for %s: it is there already; remove it first", file);
        return 1;
    }
    return 0;
}

/* Whether somebody has made the file. -1 if none that is made could be trusted, or seen, any more. */
static int is_made(const char *file, const char *directory, int events)
{
    char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    struct stat about;
    ssize_t got;

    if (lstat(file, &about) == 0)
        return 1;
    while ((got = read(events, buffer, sizeof buffer)) > 0)
        ; /* whatever it was: what counts is what is there now */
    return lstat(file, &about) == 0 ? 1 : is_for_root_alone(directory) ? 0 : -1;
}

int wait_for_trigger(const char *file)
{
    char directory[PATH_MAX];
    struct pollfd sources[2] = {{.fd = -1, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    struct signalfd_siginfo signal;
    sigset_t heard;

    if (file) {
        int wrong = find_directory(file, directory);

        if (wrong)
            return wrong;
        sources[1].fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (inotify_add_watch(sources[1].fd, directory, WATCHED) < 0) {
            say("cannot watch %s: %s", directory, strerror(errno));
            return 1;
        }
    }
    sigemptyset(&heard);
    sigaddset(&heard, SIGUSR1);
    sigaddset(&heard, SIGTERM);
    sigaddset(&heard, SIGINT);
    sigaddset(&heard, SIGHUP);
    sources[0].fd = signalfd(-1, &heard, SFD_NONBLOCK | SFD_CLOEXEC);
    if (sources[0].fd < 0) {
        say("cannot wait for a signal: %s", strerror(errno));
        return 1;
    }
    say("wipes all keys at SIGUSR1 to process %d%s%s", (int)getpid(), file ? ", or when there is " : "",
        file ? file : "");
    for (;;) {
        int made = file ? is_made(file, directory, sources[1].fd) : 0;

        if (made)
            return made > 0 ? -1 : 1;
        if (read(sources[0].fd, &signal, sizeof signal) == sizeof signal)
            return signal.ssi_signo == SIGUSR1 ? -1 : signal.ssi_signo == SIGINT ? 130 : 0;
        poll(sources, 2, -1);
    }
}
