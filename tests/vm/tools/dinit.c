/* The last step of dinit, which no package has: a stand-in that is faithful to version 0.20.
 *
 *   dinit -p|-r|-h|-k         as PID 1: stop the service finalstage, then become /sbin/shutdown
 *   shutdown --system -p|…    what dinit becomes, by that name: end all, unmount, reboot(2)
 *   shutdown …                what people call: ask dinit to go down (here it only says so)
 *
 * Source: main() in src/dinit.cc, do_system_shutdown() in src/shutdown.cc. */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVICE "/etc/dinit.d/finalstage"
#define SHUTDOWN "/sbin/shutdown"

static void block_signals(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Have a command done by a child, with no signal blocked, as services have none. */
static void run(char *const *words)
{
    sigset_t none;
    pid_t child = fork();

    if (child == 0) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execv(words[0], words);
        err(1, "cannot execute %s", words[0]);
    }
    waitpid(child, NULL, 0);
}

static void stop_service(void)
{
    static const char setting[] = "stop-command = ";
    char line[256], *words[16] = {NULL};
    FILE *file = fopen(SERVICE, "re");
    size_t count = 0;

    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, setting, sizeof setting - 1)) {
            for (char *word = strtok(line + sizeof setting - 1, " \n"); word && count < 15;
                 word = strtok(NULL, " \n"))
                words[count++] = word;
            run(words);
            break;
        }
    if (file)
        fclose(file);
}

static void be_dinit(const char *how)
{
    block_signals();
    signal(SIGTSTP, SIG_IGN);
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    stop_service();
    execl(SHUTDOWN, SHUTDOWN, "--system", how, NULL);
    warn("Error executing " SHUTDOWN);
    for (;;)
        pause();
}

static void system_shutdown(int how)
{
    static char *const swap[] = {"/sbin/swapoff", "-a", NULL};
    static char *const disks[] = {"/bin/umount", "-a", "-r", NULL};
    int console = open("/dev/console", O_WRONLY);

    block_signals();
    dup2(console, STDOUT_FILENO);
    puts("Sending TERM/KILL to all processes...");
    kill(-1, SIGTERM);
    sleep(1);
    kill(-1, SIGKILL);
    puts("Turning off swap...");
    run(swap);
    puts("Unmounting disks...");
    run(disks);
    sync();
    puts("Issuing shutdown via kernel...");
    reboot(how);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    int is_system = 0, how = RB_POWER_OFF;

    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(basename(argv[0]), "dinit"))
        be_dinit(argv[1]);
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--system"))
            is_system = 1;
        else if (!strcmp(argv[i], "-r"))
            how = RB_AUTOBOOT;
        else if (!strcmp(argv[i], "-h"))
            how = RB_HALT_SYSTEM;
    if (is_system)
        system_shutdown(how);
    puts("Issuing shutdown command...");
    return 0;
}
