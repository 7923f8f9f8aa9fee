/* What systemd executes in the tree of somebody else: says that it runs, and goes down. */

#include <fcntl.h>
#include <sys/reboot.h>
#include <unistd.h>

static const char SAID[] = "the tree of somebody else is at work\n";

int main(void)
{
    int console = open("/dev/console", O_WRONLY);

    sync();
    if (write(console, SAID, sizeof SAID - 1) < 0)
        return 1;
    return reboot(RB_POWER_OFF);
}
