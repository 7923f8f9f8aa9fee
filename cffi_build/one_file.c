/* Linked into the bootloader of dist/finalstage: makes it independent of the system's C library.
 *
 * PyInstaller's bootloader unpacks the program into a temporary folder and then executes itself once
 * more, to load Python there. This one is static, so that it starts anywhere, and cannot load
 * anything: what is executed in its place is the ordinary bootloader, by the ld.so, and with the C
 * library, that were unpacked beside it. */

#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define SMALL_KIB (256UL * 1024)

#define PANIC_BUTTON "/run/initramfs/wipe-keys"

static const char *given; /* TMPDIR, as we found it */

/* Whether the launcher of a staged tree knows what to do with all these words: wipe.c. */
static int is_for_launcher(char **words)
{
    static const char *const known[] = {"--all", "--wait", "--scrub", "--poweroff", NULL};
    int all = 0;

    for (; *words; words++) {
        size_t i = 0;

        if (!strcmp(*words, "--on-file") && words[1]) {
            words++;
            continue;
        }
        while (known[i] && strcmp(*words, known[i]))
            i++;
        if (!known[i] && strncmp(*words, "--on-file=", strlen("--on-file=")))
            return 0;
        all |= !strcmp(*words, "--all");
    }
    return all;
}

static int holds_programs(const char *folder)
{
    struct statvfs about;

    return !access(folder, W_OK | X_OK) && !statvfs(folder, &about) && !(about.f_flag & ST_NOEXEC);
}

static int in_memory(const char *folder)
{
    struct statfs about;

    return statfs(folder, &about) || about.f_type == TMPFS_MAGIC || about.f_type == RAMFS_MAGIC;
}

static int is_small(void)
{
    struct sysinfo machine;

    return !sysinfo(&machine) && machine.totalram / 1024 * machine.mem_unit < SMALL_KIB;
}

/* Whoever mounts /tmp noexec, or has no disk that can be written to, has another place. Where there
 * is little memory, what is unpacked had better not lie in it: then a disk comes first. */
static void choose_folder(void)
{
    const char *folders[] = {getenv("TMPDIR"), "/tmp", "/var/tmp", "/run", "/dev/shm"};

    given = folders[0];
    for (int only_disks = is_small(); only_disks >= 0; only_disks--) {
        for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
            if (!folders[i] || !holds_programs(folders[i]) || (only_disks && in_memory(folders[i])))
                continue;
            setenv("TMPDIR", folders[i], 1);
            return;
        }
    }
    fputs("finalstage: cannot unpack itself: /tmp, /var/tmp, /run and /dev/shm cannot be written to,"
          " or are mounted noexec; set TMPDIR to a folder that can hold programs\n", stderr);
    exit(1);
}

int __real_main(int count, char **words);

/* Stands before the bootloader's own main(): the linker's --wrap. Nobody who presses the panic button
 * should wait until a program has unpacked itself, and that onto the very disk that is to be sealed:
 * where a tree is in memory, all is there. */
int __wrap_main(int count, char **words)
{
    if (count > 2 && !strcmp(words[1], "wipe-keys") && is_for_launcher(words + 2) && !geteuid())
        execv(PANIC_BUTTON, words + 1);
    choose_folder();
    return __real_main(count, words);
}

static void restore(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static char *in(const char *folder, const char *name)
{
    char *path = malloc(strlen(folder) + strlen(name) + 2);

    return path ? strcat(strcat(strcpy(path, folder), "/"), name) : NULL;
}

/* Stands in for execvp(3) in the bootloader: the linker's --wrap. `self` is where the archive is. */
int __wrap_execvp(const char *self, char *const argv[])
{
    char *folder = getenv("_PYI_APPLICATION_HOME_DIR");
    char *loader = in(folder, LOADER), *program = in(folder, BOOTLOADER);
    char *first[] = {loader, "--argv0", (char *)self, "--library-path", folder, program};
    size_t count = 0;
    char **words;

    while (argv[count])
        count++;
    words = malloc(sizeof first + count * sizeof *argv);
    if (!loader || !program || !words)
        return -1;
    memcpy(words, first, sizeof first);
    memcpy(words + sizeof first / sizeof *first, argv + 1, count * sizeof *argv); /* and the NULL */
    /* Else what it starts would take libraries from here that are not its own. */
    restore("LD_LIBRARY_PATH", getenv("LD_LIBRARY_PATH_ORIG"));
    unsetenv("LD_LIBRARY_PATH_ORIG");
    restore("TMPDIR", given);
    return execv(loader, words);
}
