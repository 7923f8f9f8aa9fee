/* Listens at @NAME, or vsock:PORT, and puts what it hears into the kernel's log. */

#include <err.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int listen_unix(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    int end = socket(AF_UNIX, SOCK_DGRAM, 0);

    strcpy(address.sun_path + 1, name + 1);
    if (bind(end, (struct sockaddr *)&address, length) < 0)
        err(1, "cannot listen at %s", name);
    return end;
}

static int listen_vsock(const char *port)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    int end = socket(AF_VSOCK, SOCK_STREAM, 0);

    address.svm_port = (unsigned int)atoi(port);
    if (bind(end, (struct sockaddr *)&address, sizeof address) < 0 || listen(end, 1) < 0)
        err(1, "cannot listen at port %s", port);
    return end;
}

int main(int argc, char **argv)
{
    int is_unix = argc == 2 && argv[1][0] == '@';
    int end = argc != 2 ? -1 : is_unix ? listen_unix(argv[1]) : listen_vsock(argv[1] + 6);
    FILE *log = fopen("/dev/kmsg", "w");
    struct sockaddr_vm from = {0};
    socklen_t length = sizeof from;
    char heard[4096];
    ssize_t got;

    if (end < 0 || !log)
        err(1, "cannot listen");
    daemon(1, 1);
    if (!is_unix)
        end = accept(end, (struct sockaddr *)&from, &length);
    while ((got = read(end, heard, sizeof heard - 1)) > 0) {
        heard[got] = '\0';
        for (char *line = heard; (line = strchr(line, '\n'));)
            *line = ' ';
        fprintf(log, "<1>heard %s from %s port\n", heard,
                is_unix ? "no" : from.svm_port < 1024 ? "a privileged" : "any");
        fflush(log);
    }
    return 0;
}
