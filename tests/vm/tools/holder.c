/* Holds the file FILE open for ever, under whatever name it was executed by. */

#include <err.h>
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2 || open(argv[1], O_RDWR | O_CREAT, 0600) < 0)
        err(1, "cannot open what to hold");
    for (;;)
        pause();
}
