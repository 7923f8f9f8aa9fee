/* Runs programs of others, each with the verb as its argument, and ends them when their time is over:
 *
 * - What systemd-shutdown would have run: the executables in /usr/lib/systemd/system-shutdown, all at
 *   once. They are programs of the old root, and run there. Source: systemd-shutdown(8), main() in
 *   src/shutdown/shutdown.c, execute_directories() in src/shared/exec-util.c, files_add() in
 *   src/basic/conf-files.c.
 * - The administrator's own, which the tree carries: those of a moment, one after the other in the
 *   order of their names. They run in the tree, and see nothing of the old root.
 *
 * All of them are in namespaces of their own. When the first process of a process namespace ends, the
 * kernel ends all that they have started; with the mount namespace goes what they have mounted. */

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
#define MOST_VARIABLES 16
#define OF_MOMENTS "/etc/finalstage/hooks" /* in the tree: finalstage/moments.py */
#define MARK "/.ran-"                      /* in the tree: what has been run */
#define FILES_AT_MOST 1024    /* a soft limit that programs which close all of them expect */
#define END_TIME (SECOND / 2) /* for the first process of the namespace to end */
#define PAUSE 5000            /* microseconds */

static const char *const OF_SYSTEMD[] = {"/usr/lib/systemd/system-shutdown",
                                         "/lib/systemd/system-shutdown", NULL};

struct hook {
    pid_t process;
    char path[NAME_MAX + 64];
};

/* Programs that run at once, where `enter` leads to, until a time. */
struct group {
    struct hook hooks[MOST_HOOKS];
    size_t count;
    int (*enter)(void);
    const char *const *folders; /* of what is only found where they run */
    char *verb;
    long until;
};

/* One line for the stage, on standard output. */
#define tell(...) dprintf(STDOUT_FILENO, __VA_ARGS__)

/* --- where they run -------------------------------------------------------------------------- */

/* Go where systemd's are at home; -1 if that is not possible. */
static int enter_old_root(void)
{
    static const char *const places[] = {"/dev", "/sys"};
    char place[64];

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(place, sizeof place, "/" OLD_ROOT "%s", places[i]);
        mount(places[i], place, NULL, MS_BIND | MS_REC, NULL);
    }
    if (mount("proc", "/" OLD_ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        mount("/proc", "/" OLD_ROOT "/proc", NULL, MS_BIND | MS_REC, NULL);
    return chroot("/" OLD_ROOT) < 0 || chdir("/") < 0 ? -1 : 0;
}

static int is_of_the_tree(const char *target)
{
    return !strcmp(target, "/") || !strcmp(target, "/dev") || !strcmp(target, "/proc") ||
           !strcmp(target, "/sys");
}

/* Stay in the tree, and have nothing else mounted that could be held, by whoever is slow to end. */
static int enter_tree_alone(void)
{
    FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;

    umount2("/" OLD_ROOT, MNT_DETACH); /* and all that is mounted in it */
    while (mountinfo && getline(&line, &size, mountinfo) > 0) {
        char target[PATH_MAX];

        if (sscanf(line, "%*d %*d %*s %*s %4095s", target) != 1)
            continue;
        unescape(target);
        if (!is_of_the_tree(target))
            umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    if (mountinfo)
        fclose(mountinfo);
    free(line);
    /* That of their own process namespace, from which no way leads to another root. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        say("cannot mount /proc for hooks: %s", strerror(errno));
    return chdir("/");
}

/* --- which there are ------------------------------------------------------------------------- */

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

/* The same folder by another name is left out: /lib may be a link to /usr/lib. */
static void find_hooks(struct group *group, const char *const *folders)
{
    struct stat info, before = {0};

    for (; *folders; folders++) {
        DIR *folder = opendir(*folders);
        struct dirent *entry;

        if (!folder)
            continue;
        if (fstat(dirfd(folder), &info) == 0 &&
            (info.st_dev != before.st_dev || info.st_ino != before.st_ino)) {
            before = info;
            while (group->count < MOST_HOOKS && (entry = readdir(folder)))
                if (is_hook(dirfd(folder), entry->d_name))
                    snprintf(group->hooks[group->count++].path, sizeof group->hooks->path, "%s/%s",
                             *folders, entry->d_name);
        }
        closedir(folder);
    }
}

static int by_path(const void *one, const void *other)
{
    return strcmp(((const struct hook *)one)->path, ((const struct hook *)other)->path);
}

/* --- one group of them ----------------------------------------------------------------------- */

/* Standard streams as systemd gives them: what they write is seen, and waits for the console. Returns
 * what tells the stage, until a program is executed. */
static int open_streams(void)
{
    int stage = dup3(STDOUT_FILENO, STDERR_FILENO + 1, O_CLOEXEC);
    int nothing = open("/dev/null", O_RDONLY);
    int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK);

    if (console >= 0)
        fcntl(console, F_SETFL, 0);
    else
        console = open("/dev/null", O_WRONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(console, STDOUT_FILENO);
    dup2(console, STDERR_FILENO);
    close_from(stage < 0 ? STDERR_FILENO + 1 : stage + 1);
    return stage;
}

/* What the stage has for them to know, and a path. */
static char **their_environment(void)
{
    static char *found[MOST_VARIABLES + 2] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};

    for (size_t i = 0; i < MOST_VARIABLES && environ[i]; i++)
        found[i + 1] = environ[i];
    return found;
}

static void become_hook(char *path, char *verb)
{
    struct rlimit files;
    sigset_t none;
    int stage;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    stage = open_streams();
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
    execve(path, (char *[]){path, verb, NULL}, their_environment());
    dprintf(stage, "%s cannot be executed: %s\n", path, strerror(errno));
    _exit(127);
}

static void start_hooks(struct group *group)
{
    for (size_t i = 0; i < group->count; i++) {
        struct hook *hook = &group->hooks[i];

        hook->process = fork();
        if (hook->process == 0)
            become_hook(hook->path, group->verb);
        if (hook->process < 0)
            tell("cannot start %s: %s\n", hook->path, strerror(errno));
    }
}

/* Say of a hook that has ended how it went, if not well. */
static void ended(struct group *group, pid_t process, int status)
{
    for (size_t i = 0; i < group->count; i++)
        if (group->hooks[i].process == process) {
            group->hooks[i].process = 0;
            if (WIFSIGNALED(status))
                tell("%s was killed by signal %d\n", group->hooks[i].path, WTERMSIG(status));
            else if (WEXITSTATUS(status))
                tell("%s ended with status %d\n", group->hooks[i].path, WEXITSTATUS(status));
        }
}

static size_t running(const struct group *group)
{
    size_t found = 0;

    for (size_t i = 0; i < group->count; i++)
        found += group->hooks[i].process > 0;
    return found;
}

/* Wait until all have ended or the time is over, and end what is left. */
static void wait_for_hooks(struct group *group)
{
    int status;
    pid_t process;

    while (running(group) && now() < group->until) {
        process = waitpid(-1, &status, WNOHANG);
        if (process > 0)
            ended(group, process, status);
        else
            usleep(PAUSE);
    }
    while ((process = waitpid(-1, &status, WNOHANG)) > 0)
        ended(group, process, status);
    if (process == 0 && !running(group))
        tell("a process that %s has left behind is ended\n",
             group->count == 1 ? group->hooks->path : "one of them");
    for (size_t i = 0; i < group->count; i++)
        if (group->hooks[i].process > 0) {
            kill(-group->hooks[i].process, SIGKILL);
            tell("%s took too long, and is ended\n", group->hooks[i].path);
        }
}

/* What the first process of the namespaces does. */
static int run_here(struct group *group)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || group->enter() < 0) {
        tell("cannot go where they run: %s\n", strerror(errno));
        return 1;
    }
    if (group->folders)
        find_hooks(group, group->folders);
    start_hooks(group);
    wait_for_hooks(group);
    if (group->folders)
        tell("ran %zu\n", group->count);
    return 0;
}

/* Run a group in namespaces of its own, and return when it has ended, or soon after it should have.
 * Without process namespaces in the kernel, the stage ends what they leave. */
static int run_apart(struct group *group)
{
    int separate = 1;
    pid_t first = syscall(SYS_clone, CLONE_NEWNS | CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, 0L);

    if (first < 0 && errno == EINVAL) {
        separate = 0;
        first = syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, 0L);
    }
    if (first == 0)
        _exit(run_here(group));
    if (first < 0) {
        tell("cannot start a process for them: %s\n", strerror(errno));
        return -1;
    }
    while (waitpid(first, NULL, WNOHANG) == 0) {
        if (now() >= group->until + END_TIME) {
            if (separate)
                kill(first, SIGKILL);
            break;
        }
        usleep(PAUSE);
    }
    return 0;
}

/* Whether this is the first time. Where that cannot be noted, it is: better once too often. */
static int is_first_time(const char *what)
{
    char place[64];
    int mark, there;

    snprintf(place, sizeof place, MARK "%s", what);
    mark = open(place, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    there = mark < 0 && errno == EEXIST;
    close(mark);
    if (there)
        tell("they have been run before\n");
    return !there;
}

static long from_now(const char *seconds)
{
    return now() + (long)(strtod(seconds, NULL) * SECOND);
}

int run_hooks(char *verb, const char *seconds)
{
    static struct group all;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!is_first_time("system-shutdown"))
        return 0;
    all.enter = enter_old_root;
    all.folders = OF_SYSTEMD;
    all.verb = verb;
    all.until = from_now(seconds);
    return run_apart(&all) < 0;
}

int run_moment(const char *moment, char *verb, const char *seconds, const char *each)
{
    static struct group all, one;
    char folder[64];
    const char *folders[] = {folder, NULL};
    long until = from_now(seconds);
    size_t count = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!is_first_time(moment))
        return 0;
    snprintf(folder, sizeof folder, OF_MOMENTS "/%s", moment);
    find_hooks(&all, folders);
    qsort(all.hooks, all.count, sizeof *all.hooks, by_path);
    one.count = 1;
    one.enter = enter_tree_alone;
    one.verb = verb;
    for (; count < all.count && now() < until; count++) {
        one.hooks[0] = all.hooks[count];
        one.until = from_now(each) < until ? from_now(each) : until;
        if (run_apart(&one) < 0)
            return 1;
    }
    for (size_t i = count; i < all.count; i++)
        tell("%s was not run: no time is left\n", all.hooks[i].path);
    tell("ran %zu\n", count);
    return 0;
}
