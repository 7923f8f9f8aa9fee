/* Fills memory with the file FILE, on a tmpfs, until only MIB MiB are said to be available.
 *
 * Without any other program, which would need memory itself. What is available is an estimate: if
 * the kernel has none left, it kills this process first, and leaves the file. */

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char meminfo[4096], piece[64 << 10];

static long available_kib(void)
{
    int file = open("/proc/meminfo", O_RDONLY);
    ssize_t length = read(file, meminfo, sizeof(meminfo) - 1);

    if (length < 0)
        err(1, "cannot read /proc/meminfo");
    meminfo[length] = 0;
    close(file);
    return atol(strstr(meminfo, "MemAvailable:") + strlen("MemAvailable:"));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(1, "wants FILE MIB");

    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    int file = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);

    if (write(score, "1000", 4) < 0 || file < 0)
        err(1, "cannot begin");
    while (available_kib() > atol(argv[2]) * 1024)
        if (write(file, piece, sizeof(piece)) < 0)
            err(1, "cannot write");
    return 0;
}
