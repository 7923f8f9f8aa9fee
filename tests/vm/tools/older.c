/* older NUMBER COMMAND...: runs a command as on a kernel that has fewer system calls.
 *
 * Each one from NUMBER on fails with ENOSYS, as one does that a kernel does not know. They are
 * numbered as they were added; in which release that was, git knows: arch/x86/entry/syscalls. */

#include <err.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define FIELD(name) offsetof(struct seccomp_data, name)

int main(int argc, char **argv)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD(nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, argc > 1 ? (unsigned)atoi(argv[1]) : 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof rules / sizeof *rules, .filter = rules};

    if (argc < 3 || atoi(argv[1]) <= 0)
        errx(2, "older NUMBER COMMAND...");
    /* A program whose user changes would not be let through otherwise; nobody here does that. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) < 0)
        err(1, "seccomp");
    execvp(argv[2], argv + 2);
    err(127, "%s", argv[2]);
}
