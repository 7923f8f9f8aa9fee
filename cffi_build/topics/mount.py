"""Mounts and swap: mount(2), umount2(2), swapoff(2), and the file-descriptor mount API."""

SOURCE = """
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Called by number, since glibc's own wrappers would make the extension need GLIBC_2.36. */
static int sys_fsopen(const char *fstype)
{ return syscall(SYS_fsopen, fstype, FSOPEN_CLOEXEC); }
static int sys_fsconfig_string(int fs, const char *key, const char *value)
{ return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0); }
static int sys_fsconfig_create(int fs)
{ return syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0); }
static int sys_fsmount(int fs)
{ return syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0); }
static int sys_open_tree(const char *path)
{ return syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC); }
static int sys_move_mount(int from, const char *to)
{ return syscall(SYS_move_mount, from, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH); }
"""

CDEF = """
#define MS_RDONLY ...
#define MS_NOSUID ...
#define MS_NODEV ...
#define MS_NOEXEC ...
#define MS_NOATIME ...
#define MS_NODIRATIME ...
#define MS_RELATIME ...
#define MS_REMOUNT ...
#define MS_BIND ...
#define MS_MOVE ...
#define MS_PRIVATE ...
#define MNT_FORCE ...
#define MNT_DETACH ...
#define UMOUNT_NOFOLLOW ...

int mount(const char *source, const char *target, const char *fstype,
          unsigned long flags, const void *data);
int umount2(const char *target, int flags);
int swapoff(const char *path);
int syncfs(int fd);

#define FIFREEZE ...
#define FITHAW ...

int sys_fsopen(const char *fstype);
int sys_fsconfig_string(int fs, const char *key, const char *value);
int sys_fsconfig_create(int fs);
int sys_fsmount(int fs);
int sys_open_tree(const char *path);
int sys_move_mount(int from, const char *to);
"""
