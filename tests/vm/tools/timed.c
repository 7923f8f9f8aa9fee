/* Runs a command and puts before each line of its output how many seconds after its start that came.
 *
 * usage: timed COMMAND [WORD...] */

#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    char line[1024];
    int ends[2], status;
    double start;
    FILE *output;

    mlockall(MCL_CURRENT | MCL_FUTURE); /* the root that it was started from may be sealed */
    if (argc < 2 || pipe(ends) < 0)
        return 2;
    start = now();
    if (fork() == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        execv(argv[1], argv + 1);
        return 127;
    }
    close(ends[1]);
    output = fdopen(ends[0], "r");
    while (fgets(line, sizeof line, output)) {
        printf("timed %.3f %s", now() - start, line);
        fflush(stdout);
    }
    wait(&status);
    printf("timed %.3f status %d\n", now() - start, WEXITSTATUS(status));
    return 0;
}
