/* Moves into the tree. The tree may be the root already (systemd-shutdown has pivoted, or it is
 * an initramfs), a tmpfs of its own, a directory in one, or a directory on the very root that has
 * to go; then it is copied into memory first. */

#define _GNU_SOURCE
#include "launcher.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Go to the directory of a file, if the stage lies below it. */
static int go_beside(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        slash[slash == path] = '\0';
    return chdir(slash ? path : ".") == 0 && access(STAGE + 1, F_OK) == 0;
}

int find_tree(void)
{
    char path[PATH_MAX];
    const char *executed = (const char *)getauxval(AT_EXECFN);
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);

    if (length > 0) {
        path[length] = '\0';
        if (go_beside(path))
            return 1;
    }
    /* Without /proc: what execve(2) was given, which may be a link from elsewhere. */
    if (!executed || strlen(executed) >= sizeof path)
        return 0;
    return go_beside(strcpy(path, executed));
}

int same_directory(const char *one, const char *other)
{
    struct stat a, b;

    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int is_type(const char *path, unsigned long magic)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == magic;
}

static int in_memory(const char *path)
{
    return is_type(path, TMPFS_MAGIC) || is_type(path, RAMFS_MAGIC);
}

int copy_directory(int from, int to)
{
    DIR *directory = fdopendir(from);
    struct dirent *entry;
    int failed = !directory;

    while (!failed && (entry = readdir(directory))) {
        struct stat info, there;
        const char *name = entry->d_name;

        if (!strcmp(name, ".") || !strcmp(name, ".."))
            continue;
        failed = fstatat(from, name, &info, AT_SYMLINK_NOFOLLOW);
        if (failed)
            break;
        if (S_ISDIR(info.st_mode)) {
            failed = mkdirat(to, name, info.st_mode & 07777) < 0 && errno != EEXIST;
            if (!failed) {
                int below = openat(to, name, O_RDONLY | O_DIRECTORY);

                failed = copy_directory(openat(from, name, O_RDONLY | O_DIRECTORY), below);
                close(below);
            }
        } else if (fstatat(to, name, &there, AT_SYMLINK_NOFOLLOW) == 0) {
            continue;
        } else if (S_ISLNK(info.st_mode)) {
            char target[PATH_MAX];
            ssize_t length = readlinkat(from, name, target, sizeof target - 1);

            failed = length < 0;
            if (!failed) {
                target[length] = '\0';
                failed = symlinkat(target, to, name);
            }
        } else if (S_ISREG(info.st_mode)) {
            int source = openat(from, name, O_RDONLY);
            int copy = openat(to, name, O_WRONLY | O_CREAT | O_EXCL, info.st_mode & 07777);
            off_t left = info.st_size;

            while (left > 0) {
                ssize_t sent = sendfile(copy, source, NULL, left);

                if (sent <= 0)
                    break;
                left -= sent;
            }
            failed = source < 0 || copy < 0 || left > 0;
            close(source);
            close(copy);
        }
    }
    if (directory)
        closedir(directory);
    return failed;
}

/* Copy the tree into a tmpfs that covers it, and go there. */
static int move_to_memory(const char *tree)
{
    int from = open(".", O_RDONLY | O_DIRECTORY);
    int to;

    if (from < 0 || mount("tmpfs", tree, "tmpfs", 0, "mode=0755") < 0)
        return -1;
    to = open(tree, O_RDONLY | O_DIRECTORY);
    if (to < 0 || copy_directory(from, to) || fchdir(to) < 0) {
        int reason = errno;

        umount2(tree, MNT_DETACH);
        errno = reason;
        return -1;
    }
    close(to);
    return 0;
}

/* Have one of the kernel's own file systems at a place in the tree, and nothing else there: what
 * systemd-shutdown has bound there could lie on the old root. */
static void provide(const char *type, const char *place, unsigned long flags)
{
    mkdir(place, 0755);
    while (umount2(place, MNT_DETACH) == 0)
        ;
    if (mount(type, place, type, MS_NOSUID | flags, NULL) < 0)
        say("cannot mount %s: %s", type, strerror(errno));
}

static void provide_all(void)
{
    if (!is_type("proc", PROC_SUPER_MAGIC))
        provide("proc", "proc", MS_NODEV | MS_NOEXEC);
    if (!is_type("sys", SYSFS_MAGIC))
        provide("sysfs", "sys", MS_NODEV | MS_NOEXEC);
    if (!in_memory("dev") || access("dev/console", F_OK) != 0)
        provide("devtmpfs", "dev", 0);
}

void unescape(char *text)
{
    char *to = text;

    for (; *text; text++)
        if (text[0] == '\\' && text[1] && text[2] && text[3]) {
            *to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 3;
        } else {
            *to++ = *text;
        }
    *to = '\0';
}

/* Make the place below OLD_ROOT where a mount is moved to: a directory, or a file for a mount on
 * a file. */
static void make_place(const char *original, char *place)
{
    struct stat info;

    for (char *slash = place + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(place, 0755);
        *slash = '/';
    }
    if (stat(original, &info) == 0 && !S_ISDIR(info.st_mode))
        mknod(place, S_IFREG | 0600, 0);
    else
        mkdir(place, 0755);
}

/* On an initramfs the root is the kernel's first mount, which pivot_root(2) refuses to move. So
 * the tree is moved over it, as switch_root does, and every mount on the old root is moved below
 * OLD_ROOT; the root itself is only memory. The working directory stays in the tree, while
 * absolute paths still start at the old root. */
static int move_over_root(const char *tree)
{
    FILE *mountinfo = fopen("proc/self/mountinfo", "re");
    char *mounts[1024]; /* those directly on the root: far more than any initramfs has */
    size_t count = 0, size = 0;
    char *line = NULL;
    int root = -1;

    while (mountinfo && count < sizeof mounts / sizeof *mounts &&
           getline(&line, &size, mountinfo) > 0) {
        char place[PATH_MAX];
        int id, parent;

        if (sscanf(line, "%d %d %*s %*s %4095s", &id, &parent, place) != 3)
            continue;
        unescape(place);
        if (root < 0 && !strcmp(place, "/"))
            root = id;
        else if (parent == root && strcmp(place, tree))
            mounts[count++] = strdup(place);
    }
    if (mount(".", "/", NULL, MS_MOVE, NULL) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char place[2 * PATH_MAX];

        snprintf(place, sizeof place, "%s%s", OLD_ROOT, mounts[i]);
        make_place(mounts[i], place);
        if (mount(mounts[i], place, NULL, MS_MOVE, NULL) < 0)
            say("cannot move the mount at %s: %s", mounts[i], strerror(errno));
    }
    return chroot(".");
}

/* pivot_root(2) wants a mount point, and neither it nor its parent may share events with others.
 * All other mounts go on sharing: what is unmounted here is then unmounted in the namespaces of
 * others too, where it would else hold its device. */
static void make_mount_point(const char *tree)
{
    for (int i = 0; i < 2; i++)
        if (mount(".", tree, NULL, MS_BIND, NULL) < 0 || chdir(tree) < 0 ||
            mount(NULL, tree, NULL, MS_PRIVATE, NULL) < 0)
            say("cannot make the tree a mount point: %s", strerror(errno));
}

/* MS_MOVE refuses what lies on a mount that shares events. */
static int make_all_private(void)
{
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* `umount -a -r`, which some inits end with, makes read-only what is in use, as the tree is. */
static void make_writable(void)
{
    struct statvfs tree;

    if (statvfs(".", &tree) == 0 && tree.f_flag & ST_RDONLY &&
        mount(NULL, ".", NULL, MS_REMOUNT, NULL) < 0)
        say("cannot make the tree writable: %s", strerror(errno));
}

void enter_tree(void)
{
    char tree[PATH_MAX];

    umask(022);
    if (same_directory(".", "/")) {
        make_writable();
        provide_all();
        return;
    }
    if (!getcwd(tree, sizeof tree)) {
        say("cannot name the tree's directory: %s", strerror(errno));
        return;
    }
    if (!in_memory(".") && move_to_memory(tree) < 0)
        say("cannot copy the tree into memory, so its file system stays: %s", strerror(errno));
    make_mount_point(tree);
    make_writable();
    mkdir(OLD_ROOT, 0755);
    provide_all();
    if (syscall(SYS_pivot_root, ".", OLD_ROOT) < 0 &&
        (errno != EINVAL || make_all_private() < 0 || move_over_root(tree) < 0)) {
        say("cannot leave the old root, so it will stay: %s", strerror(errno));
        mount("/", OLD_ROOT, NULL, MS_BIND | MS_REC, NULL);
        if (chroot(".") < 0)
            say("cannot enter the tree: %s", strerror(errno));
    }
    if (chroot(".") < 0 || chdir("/") < 0)
        say("cannot enter the tree: %s", strerror(errno));
}
