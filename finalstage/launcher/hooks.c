/* Runs what systemd-shutdown would have run: the executables in /usr/lib/systemd/system-shutdown,
 * all at once, each with the verb as its argument. Source: systemd-shutdown(8), main() in
 * src/shutdown/shutdown.c, execute_directories() in src/shared/exec-util.c, files_add() in
 * src/basic/conf-files.c.
 *
 * They are programs of the old root, and expect to be on it. So they run there, in a mount
 * namespace that has /dev, /proc and /sys in their places, and in a process namespace: when its
 * first process ends, the kernel ends all that they have started. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_HOOKS 64
#define MARK "/run/hooks"        /* in the tree: whether they have been run */
#define FILES_AT_MOST 1024       /* a soft limit that programs which close all of them expect */
#define END_TIME (SECOND / 2)    /* for the first process of the namespace to end */
#define PAUSE 5000               /* microseconds */

static const char *const FOLDERS[] = {"/usr/lib/systemd/system-shutdown",
                                      "/lib/systemd/system-shutdown"};

static struct hook {
    pid_t process;
    char path[NAME_MAX + 48];
} *hooks;

/* One line for the stage, on standard output. */
#define tell(...) dprintf(STDOUT_FILENO, __VA_ARGS__)

/* Go where the hooks are at home; -1 if that is not possible. */
static int enter_old_root(void)
{
    static const char *const places[] = {"/dev", "/sys"};
    char place[64];

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -1;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(place, sizeof place, "/" OLD_ROOT "%s", places[i]);
        mount(places[i], place, NULL, MS_BIND | MS_REC, NULL);
    }
    if (mount("proc", "/" OLD_ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        mount("/proc", "/" OLD_ROOT "/proc", NULL, MS_BIND | MS_REC, NULL);
    return chroot("/" OLD_ROOT) < 0 || chdir("/") < 0 ? -1 : 0;
}

/* Standard streams as systemd gives them: what they write is seen, and waits for the console. */
static void open_streams(void)
{
    int nothing = open("/dev/null", O_RDONLY);
    int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK);

    if (console >= 0)
        fcntl(console, F_SETFL, 0);
    else
        console = open("/dev/null", O_WRONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(console, STDOUT_FILENO);
    dup2(console, STDERR_FILENO);
    syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
}

static void become_hook(char *path, char *verb)
{
    static char *environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                  NULL};
    struct rlimit files;
    sigset_t none;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    open_streams();
    set_oom_score("0");
    setpriority(PRIO_PROCESS, 0, 0);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > FILES_AT_MOST) {
        files.rlim_cur = FILES_AT_MOST;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(path, (char *[]){path, verb, NULL}, environment);
    _exit(127);
}

/* Whether a name is that of a copy which a package manager or an editor has left:
 * hidden_or_backup_file() in src/basic/path-util.c. */
static int is_backup(const char *name)
{
    static const char *const endings[] = {
        "rpmnew",   "rpmsave",     "rpmorig",     "dpkg-old", "dpkg-new", "dpkg-tmp", "dpkg-dist",
        "dpkg-bak", "dpkg-backup", "dpkg-remove", "ucf-new",  "ucf-old",  "ucf-dist", "swp",
        "bak",      "old",         "new",
    };
    const char *dot = strrchr(name, '.');

    if (name[0] == '.' || name[strlen(name) - 1] == '~')
        return 1;
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcmp(dot + 1, endings[i]))
            return 1;
    return 0;
}

static int is_hook(int folder, const char *name)
{
    struct stat info;

    return !is_backup(name) && fstatat(folder, name, &info, 0) == 0 && S_ISREG(info.st_mode) &&
           info.st_size > 0 && info.st_mode & 0111;
}

static size_t find_hooks(void)
{
    size_t count = 0;
    struct stat info, before = {0};

    hooks = calloc(MOST_HOOKS, sizeof *hooks);
    for (size_t i = 0; hooks && i < sizeof FOLDERS / sizeof *FOLDERS; i++) {
        DIR *folder = opendir(FOLDERS[i]);
        struct dirent *entry;

        if (!folder)
            continue;
        if (fstat(dirfd(folder), &info) == 0 &&
            (info.st_dev != before.st_dev || info.st_ino != before.st_ino)) { /* /lib may be a link */
            before = info;
            while (count < MOST_HOOKS && (entry = readdir(folder)))
                if (is_hook(dirfd(folder), entry->d_name))
                    snprintf(hooks[count++].path, sizeof hooks->path, "%s/%s", FOLDERS[i],
                             entry->d_name);
        }
        closedir(folder);
    }
    return count;
}

static void start_hooks(size_t count, char *verb)
{
    for (size_t i = 0; i < count; i++) {
        hooks[i].process = fork();
        if (hooks[i].process == 0)
            become_hook(hooks[i].path, verb);
        if (hooks[i].process < 0)
            tell("cannot start %s: %s\n", hooks[i].path, strerror(errno));
    }
}

/* Say of a hook that has ended how it went, if not well. */
static void ended(pid_t process, int status, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (hooks[i].process == process) {
            hooks[i].process = 0;
            if (WIFSIGNALED(status))
                tell("%s was killed by signal %d\n", hooks[i].path, WTERMSIG(status));
            else if (WEXITSTATUS(status))
                tell("%s ended with status %d\n", hooks[i].path, WEXITSTATUS(status));
        }
}

static size_t running(size_t count)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += hooks[i].process > 0;
    return found;
}

/* Wait until all have ended or the time is over, and end what is left. */
static void wait_for_hooks(size_t count, long until)
{
    int status;
    pid_t process;

    while (running(count) && now() < until) {
        process = waitpid(-1, &status, WNOHANG);
        if (process > 0)
            ended(process, status, count);
        else
            usleep(PAUSE);
    }
    while ((process = waitpid(-1, &status, WNOHANG)) > 0)
        ended(process, status, count);
    if (process == 0 && !running(count))
        tell("a process that one of them has left behind is ended\n");
    for (size_t i = 0; i < count; i++)
        if (hooks[i].process > 0) {
            kill(-hooks[i].process, SIGKILL);
            tell("%s took too long, and is ended\n", hooks[i].path);
        }
}

/* Whether this is the first time. Where that cannot be noted, it is: better once too often. */
static int is_first_time(void)
{
    int mark = open(MARK, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int there = mark < 0 && errno == EEXIST;

    close(mark);
    return !there;
}

/* What the first process of the namespace does. */
static void run_all(char *verb, long until)
{
    size_t count;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (enter_old_root() < 0) {
        tell("cannot enter the old root: %s\n", strerror(errno));
        _exit(1);
    }
    count = find_hooks();
    start_hooks(count, verb);
    wait_for_hooks(count, until);
    tell("ran %zu\n", count);
    _exit(0);
}

int run_hooks(char *verb, const char *seconds)
{
    long until = now() + (long)(strtod(seconds, NULL) * SECOND);
    int separate;
    pid_t first, gone = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!is_first_time()) {
        tell("they have been run before\n");
        return 0;
    }
    /* Without process namespaces in the kernel, the stage ends what they leave. */
    separate = unshare(CLONE_NEWPID) == 0;
    if (unshare(CLONE_NEWNS) < 0) {
        tell("no mount namespace for them: %s\n", strerror(errno));
        return 1;
    }
    first = fork();
    if (first == 0)
        run_all(verb, until);
    if (first < 0) {
        tell("cannot fork: %s\n", strerror(errno));
        return 1;
    }
    while (!(gone = waitpid(first, NULL, WNOHANG)) && now() < until + END_TIME)
        usleep(PAUSE);
    if (!gone && separate)
        kill(first, SIGKILL);
    return 0;
}
