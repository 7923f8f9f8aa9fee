/* Tells whoever runs this machine, if that wants to hear it, how it goes down: sd_notify(3), with
 * the words of notify_supervisor() in systemd's src/shutdown/shutdown.c. The address of who listens
 * came in with the environment: pid_notify_with_fds_internal() in src/libsystemd/sd-daemon. */

#define _GNU_SOURCE
#include "guardian.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PRIVILEGED 1023 /* ports up to this one only root can have, which the other end can see */

static int connection = -1;
static char exit_status[8] = "0", parameter[256];
static int exits;

/* The value of an option that stands behind it, or in the next argument. */
static const char *value_of(char **arguments, const char *option)
{
    size_t length = strlen(option);

    for (; *arguments; arguments++)
        if (!strncmp(*arguments, option, length)) {
            if ((*arguments)[length] == '=')
                return *arguments + length + 1;
            if (!(*arguments)[length])
                return arguments[1];
        }
    return NULL;
}

static void read_parameter(void)
{
    static const char *const places[] = {"/run/systemd/reboot-param",
                                         "/" OLD_ROOT "/run/systemd/reboot-param"};
    int file = -1;
    ssize_t got;

    for (size_t i = 0; file < 0 && i < sizeof places / sizeof *places; i++)
        file = open(places[i], O_RDONLY | O_CLOEXEC);
    got = read(file, parameter, sizeof parameter - 1);
    parameter[got < 0 ? 0 : got] = '\0';
    parameter[strcspn(parameter, "\n")] = '\0';
    close(file);
}

static int connect_to(int family, int type, const void *address, socklen_t length)
{
    int end = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (end < 0)
        return -1;
    if (family == AF_VSOCK) {
        struct sockaddr_vm own = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};

        for (own.svm_port = PRIVILEGED; own.svm_port > 0; own.svm_port--)
            if (bind(end, (struct sockaddr *)&own, sizeof own) == 0 || errno != EADDRINUSE)
                break;
    }
    if (connect(end, address, length) < 0 && errno != EINPROGRESS) {
        int reason = errno;

        close(end);
        errno = reason;
        return -1;
    }
    return end;
}

/* `/path` in the old root, or `@name`. */
static int connect_unix(const char *text)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *before = *text == '@' ? "" : "/" OLD_ROOT;
    size_t length = strlen(before) + strlen(text);

    if (length >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s%s", before, text);
    length += offsetof(struct sockaddr_un, sun_path) + (*text != '@');
    if (*text == '@')
        address.sun_path[0] = '\0';
    return connect_to(AF_UNIX, SOCK_DGRAM, &address, (socklen_t)length);
}

/* `vsock:CID:PORT`, or with the type behind `vsock`. Where none is named, it is the first that the
 * hypervisor knows. */
static int connect_vsock(const char *text)
{
    static const struct {
        const char *name;
        int type;
    } forms[] = {{"vsock:", SOCK_DGRAM}, {"vsock-dgram:", SOCK_DGRAM},
                 {"vsock:", SOCK_SEQPACKET}, {"vsock-seqpacket:", SOCK_SEQPACKET},
                 {"vsock:", SOCK_STREAM}, {"vsock-stream:", SOCK_STREAM}};
    int end = -1;

    errno = EPROTO;
    for (size_t i = 0; end < 0 && i < sizeof forms / sizeof *forms; i++) {
        struct sockaddr_vm address = {.svm_family = AF_VSOCK};
        size_t length = strlen(forms[i].name);

        if (!strncmp(text, forms[i].name, length) &&
            sscanf(text + length, "%u:%u", &address.svm_cid, &address.svm_port) == 2)
            end = connect_to(AF_VSOCK, forms[i].type, &address, sizeof address);
    }
    return end;
}

void notify_open(char **arguments)
{
    const char *address = getenv("NOTIFY_SOCKET");
    const char *status = value_of(arguments, "--exit-code");

    if (!address || !*address)
        return;
    if (status)
        snprintf(exit_status, sizeof exit_status, "%s", status);
    exits = arguments[0] && arguments[1] && !strcmp(arguments[1], "exit");
    read_parameter();
    connection = *address == '/' || *address == '@' ? connect_unix(address)
                                                    : connect_vsock(address);
    if (connection < 0)
        say("cannot reach who listens at %s: %s", address, strerror(errno));
}

void notify(const char *verb, int milliseconds)
{
    struct pollfd writable = {.fd = connection, .events = POLLOUT};
    char message[512];
    int length;

    if (connection < 0 || poll(&writable, 1, milliseconds) != 1)
        return;
    length = snprintf(message, sizeof message, "EXIT_STATUS=%s\nX_SYSTEMD_SHUTDOWN=%s%s%s",
                      exit_status, exits ? "exit" : verb,
                      *parameter ? "\nX_SYSTEMD_REBOOT_PARAMETER=" : "", parameter);
    if (send(connection, message, (size_t)length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        say("cannot tell who listens how we go down: %s", strerror(errno));
    close(connection);
    connection = -1;
}
