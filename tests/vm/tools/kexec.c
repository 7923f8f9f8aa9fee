/* Loads the kernel FILE for kexec, without an initramfs: it will find no root, and panic. */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char LINE[] = "console=ttyS0,115200 panic=-1";

int main(int argc, char **argv)
{
    int kernel = open(argv[argc - 1], O_RDONLY);

    if (kernel < 0 || syscall(SYS_kexec_file_load, kernel, -1, sizeof LINE, LINE,
                              KEXEC_FILE_NO_INITRAMFS) < 0)
        err(1, "cannot load %s", argv[argc - 1]);
    return 0;
}
