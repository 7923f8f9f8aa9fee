/* Network block devices without a network, and without a machine that serves them.
 *
 *   nbd DEVICE FILE   connect DEVICE with a server of its own for FILE, and print that one's pid
 *
 * Source: Documentation/admin-guide/blockdev/nbd.rst, doc/proto.md of the NBD project.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK 512

/* Read or write all of it; the other end has gone if that does not work. */
static void all(ssize_t (*what)(int, void *, size_t), int stream, void *data, size_t size)
{
    for (char *place = data; size > 0;) {
        ssize_t done = what(stream, place, size);

        if (done <= 0)
            _exit(0);
        place += done;
        size -= done;
    }
}

static ssize_t put(int stream, void *data, size_t size)
{
    return write(stream, data, size);
}

static void serve(int stream, int file)
{
    for (;;) {
        struct nbd_request asked;
        struct nbd_reply reply = {.magic = htonl(NBD_REPLY_MAGIC)};
        char *data;
        size_t size;
        unsigned int type;

        all(read, stream, &asked, sizeof asked);
        type = ntohl(asked.type) & 0xffff;
        if (type == NBD_CMD_DISC)
            _exit(0);
        size = type == NBD_CMD_FLUSH ? 0 : ntohl(asked.len);
        data = malloc(size + 1);
        __builtin_memcpy(reply.handle, asked.handle, sizeof reply.handle);
        if (type == NBD_CMD_WRITE) {
            all(read, stream, data, size);
            if (pwrite(file, data, size, be64toh(asked.from)) != (ssize_t)size)
                reply.error = htonl(5);
        } else if (type == NBD_CMD_READ && pread(file, data, size, be64toh(asked.from)) < 0) {
            reply.error = htonl(5);
        }
        all(put, stream, &reply, sizeof reply);
        if (type == NBD_CMD_READ && !reply.error)
            all(put, stream, data, size);
        free(data);
    }
}

/* Go on in the background, at a place that holds nothing; who reads what we print goes on too. */
static void leave(void)
{
    setsid();
    if (chdir("/run") < 0)
        _exit(1);
    for (int stream = 0; stream < 3; stream++)
        close(stream);
}

int main(int argc, char **argv)
{
    int device, file, ends[2];
    off_t size;
    pid_t server;

    if (argc != 3)
        errx(2, "which device, for which file?");
    device = open(argv[1], O_RDWR);
    file = open(argv[2], O_RDWR);
    size = lseek(file, 0, SEEK_END);
    if (device < 0 || size < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        err(1, "cannot serve %s", argv[2]);
    server = fork();
    if (server == 0) {
        close(device);
        close(ends[0]);
        leave();
        serve(ends[1], file);
    }
    close(ends[1]);
    close(file);
    if (ioctl(device, NBD_SET_BLKSIZE, (unsigned long)BLOCK) < 0
        || ioctl(device, NBD_SET_SIZE_BLOCKS, (unsigned long)(size / BLOCK)) < 0
        || ioctl(device, NBD_SET_FLAGS, (unsigned long)(NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH)) < 0
        || ioctl(device, NBD_SET_SOCK, (unsigned long)ends[0]) < 0)
        err(1, "cannot set up %s", argv[1]);
    printf("%d\n", server);
    fflush(stdout);
    if (fork() == 0) {
        leave();
        ioctl(device, NBD_DO_IT);
    }
    return 0;
}
