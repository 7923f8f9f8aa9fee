/* What a guest does to itself before it goes down, where its shell has no way: one static program.
 *
 *   trouble suspend NAME      suspend a dm device without flushing: from then on all I/O to it waits
 *   trouble table NAME        ask for a dm device's table, and leave the answers in memory
 *   trouble message NAME WORDS   tell a dm device something
 *   trouble status NAME       print what the first target of a dm device says of itself
 *   trouble fuse FOLDER       mount a FUSE file system whose server hangs as soon as it is asked
 *   trouble unshare [FILE]    sleep in a mount namespace of its own, which FILE keeps alive
 *   trouble comet             fork without end, each process ending as soon as it has a child
 *   trouble bomb              fork without end, each process going on
 *   trouble hunger            take more memory, before all others, whenever hardly any is left
 *   trouble nbd DEVICE ADDRESS PORT NAME   connect a network block device
 *   trouble serve DEVICE FILE   connect one to a server of its own for FILE, without a network, and
 *                               print the server's number
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fuse.h>
#include <linux/nbd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* Be at a place that holds nothing; who reads what we print goes on too. */
static void detach(void)
{
    setsid();
    if (chdir("/run") < 0)
        _exit(1);
    for (int stream = 0; stream < 3; stream++)
        close(stream);
}

/* Go on in the background once this is called; who has started us then goes on too. */
static void leave(void)
{
    if (fork() != 0)
        _exit(0);
    detach();
}

static void message(const char *name, const char *words)
{
    int control = open("/dev/mapper/control", O_RDWR);
    struct {
        struct dm_ioctl head;
        struct dm_target_msg message;
        char words[80];
    } request = {
        .head = {
            .version = {4, 0, 0},
            .data_size = sizeof request,
            .data_start = sizeof request.head,
        },
    };

    strncpy(request.head.name, name, sizeof request.head.name - 1);
    strncpy(request.message.message, words, sizeof request.words - 1);
    if (control < 0 || ioctl(control, DM_TARGET_MSG, &request) < 0)
        err(1, "cannot tell %s to %s", name, words);
}

static void status(const char *name)
{
    int control = open("/dev/mapper/control", O_RDWR);
    static union {
        struct dm_ioctl head;
        char bytes[8 << 10];
    } answer;

    answer.head.version[0] = 4;
    answer.head.data_size = sizeof answer;
    answer.head.data_start = sizeof answer.head;
    answer.head.flags = DM_NOFLUSH_FLAG;
    strncpy(answer.head.name, name, sizeof answer.head.name - 1);
    if (control < 0 || ioctl(control, DM_TABLE_STATUS, &answer) < 0)
        err(1, "cannot ask %s for its status", name);
    puts(answer.bytes + answer.head.data_start + sizeof(struct dm_target_spec));
}

static void suspend(const char *name)
{
    int control = open("/dev/mapper/control", O_RDWR);
    struct dm_ioctl request = {
        .version = {4, 0, 0},
        .data_size = sizeof request,
        .flags = DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG,
    };

    strncpy(request.name, name, sizeof request.name - 1);
    if (control < 0 || ioctl(control, DM_DEV_SUSPEND, &request) < 0)
        err(1, "cannot suspend %s", name);
}

/* As `dmsetup table --showkeys` does: without DM_SECURE_DATA_FLAG nobody wipes the answer. So often
 * that the program which is started next does not take all of the memory that this one leaves. */
static void table(const char *name)
{
    static char answers[8192][4 << 10];
    int control = open("/dev/mapper/control", O_RDWR);

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct dm_ioctl *request = (void *)answers[i];

        request->version[0] = 4;
        request->data_size = sizeof *answers;
        request->data_start = sizeof *request;
        request->flags = DM_STATUS_TABLE_FLAG;
        strncpy(request->name, name, sizeof request->name - 1);
        if (control < 0 || ioctl(control, DM_TABLE_STATUS, request) < 0)
            err(1, "cannot ask for the table of %s", name);
    }
}

/* Answers FUSE_INIT, and nothing ever after. */
static void serve_nothing(const char *folder)
{
    static char buffer[1 << 18];
    struct fuse_in_header *question = (void *)buffer;
    struct {
        struct fuse_out_header head;
        struct fuse_init_out init;
    } answer = {.head = {.len = sizeof answer}, .init = {.major = 7, .minor = 31, .max_write = 4096}};
    char options[80];
    int device = open("/dev/fuse", O_RDWR);

    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    if (device < 0 || mount("hanging", folder, "fuse.hanging", 0, options) < 0)
        err(1, "cannot mount a FUSE file system at %s", folder);
    if (read(device, buffer, sizeof buffer) < 0)
        err(1, "no first question");
    answer.head.unique = question->unique;
    if (write(device, &answer, sizeof answer) < 0)
        err(1, "the first answer was not taken");
    leave();
    if (fork() == 0) {
        struct stat status;

        stat(folder, &status); /* somebody who waits for the answer */
        _exit(0);
    }
    for (;;)
        pause();
}

static void sleep_unshared(const char *file)
{
    if (unshare(CLONE_NEWNS) < 0)
        err(1, "unshare");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        err(1, "cannot make all mounts private");
    if (file) { /* the namespace outlives us, held by a mount in the one that we come from */
        int first = open("/proc/1/ns/mnt", O_RDONLY);
        int ours = open("/proc/self/ns/mnt", O_RDONLY);
        char path[40];

        snprintf(path, sizeof path, "/proc/self/fd/%d", ours);
        if (first < 0 || ours < 0 || setns(first, CLONE_NEWNS) < 0)
            err(1, "cannot go back");
        if (mount(path, file, NULL, MS_BIND, NULL) < 0)
            err(1, "cannot keep the namespace at %s", file);
        return;
    }
    leave();
    for (;;)
        pause();
}

static void comet(void)
{
    leave();
    for (;;)
        if (fork() > 0)
            _exit(0);
}

static void bomb(void)
{
    leave();
    for (;;)
        fork();
}

static void hunger(void)
{
    const size_t most = (size_t)1 << 30, few = (size_t)8 << 20;
    int score = open("/proc/self/oom_score_adj", O_WRONLY);
    char *memory = mmap(NULL, most, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct sysinfo info;

    if (write(score, "1000", 4) < 0 || memory == MAP_FAILED
        || syscall(SYS_sched_setscheduler, 0, SCHED_FIFO,
                   &(struct sched_param){.sched_priority = 1}) < 0)
        err(1, "cannot begin");
    leave();
    for (size_t taken = 0; taken < most;) {
        if (sysinfo(&info) == 0 && info.freeram * info.mem_unit > few) {
            usleep(1000);
            continue;
        }
        memory[taken] = 1;
        taken += 4096;
    }
}

static void receive(int stream, void *into, size_t size)
{
    while (size > 0) {
        ssize_t got = read(stream, into, size);

        if (got <= 0)
            errx(1, "the NBD server ended");
        into = (char *)into + got;
        size -= got;
    }
}

/* Connect a device of so many blocks of 512 bytes with its server, and stay for it. */
static void attach_nbd(const char *name, int device, unsigned long blocks, unsigned long flags,
                       int stream)
{
    if (ioctl(device, NBD_SET_BLKSIZE, 512UL) < 0
        || ioctl(device, NBD_SET_SIZE_BLOCKS, blocks) < 0
        || ioctl(device, NBD_SET_FLAGS, flags) < 0
        || ioctl(device, NBD_SET_SOCK, (unsigned long)stream) < 0)
        err(1, "cannot set up %s", name);
    leave();
    ioctl(device, NBD_DO_IT);
    _exit(0);
}

/* The fixed newstyle handshake with NBD_OPT_EXPORT_NAME: doc/proto.md of the NBD project. */
static void connect_nbd(const char *name, const char *address, const char *port, char export)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int stream = socket(AF_INET, SOCK_STREAM, 0), device = open(name, O_RDWR);
    struct { char magic[16]; unsigned short flags; } __attribute__((packed)) hello;
    struct { unsigned int flags; char magic[8]; unsigned int option, length; char name[1]; }
        __attribute__((packed)) wish = {htonl(3), "IHAVEOPT", htonl(1), htonl(1), {export}};
    struct { unsigned int high, low; unsigned short flags; } __attribute__((packed)) found;

    inet_pton(AF_INET, address, &place.sin_addr);
    if (device < 0 || connect(stream, (void *)&place, sizeof place) < 0)
        err(1, "cannot connect %s with %s port %s", name, address, port);
    receive(stream, &hello, sizeof hello);
    if (write(stream, &wish, sizeof wish) != sizeof wish)
        err(1, "cannot ask for an export");
    receive(stream, &found, sizeof found);
    attach_nbd(name, device, ntohl(found.low) / 512, ntohs(found.flags), stream);
}

static void answer(int stream, const void *data, size_t size)
{
    if (write(stream, data, size) != (ssize_t)size)
        _exit(0);
}

/* Answer the kernel's requests, until it disconnects: doc/proto.md of the NBD project. */
static void answer_nbd(int stream, int file)
{
    for (;;) {
        struct nbd_request asked;
        struct nbd_reply reply = {.magic = htonl(NBD_REPLY_MAGIC)};
        char *data;
        size_t size;
        unsigned int type;

        receive(stream, &asked, sizeof asked);
        type = ntohl(asked.type) & 0xffff;
        if (type == NBD_CMD_DISC)
            _exit(0);
        size = type == NBD_CMD_FLUSH ? 0 : ntohl(asked.len);
        data = malloc(size + 1);
        memcpy(reply.handle, asked.handle, sizeof reply.handle);
        if (type == NBD_CMD_WRITE) {
            receive(stream, data, size);
            if (pwrite(file, data, size, be64toh(asked.from)) != (ssize_t)size)
                reply.error = htonl(5);
        } else if (type == NBD_CMD_READ && pread(file, data, size, be64toh(asked.from)) < 0) {
            reply.error = htonl(5);
        }
        answer(stream, &reply, sizeof reply);
        if (type == NBD_CMD_READ && !reply.error)
            answer(stream, data, size);
        free(data);
    }
}

static void serve_nbd(const char *name, const char *path)
{
    int device = open(name, O_RDWR), file = open(path, O_RDWR), ends[2];
    off_t size = lseek(file, 0, SEEK_END);
    pid_t server;

    if (device < 0 || size < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        err(1, "cannot serve %s", path);
    server = fork();
    if (server == 0) {
        close(device);
        close(ends[0]);
        detach();
        answer_nbd(ends[1], file);
    }
    close(ends[1]);
    close(file);
    printf("%d\n", server);
    fflush(stdout);
    attach_nbd(name, device, size / 512, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH, ends[0]);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *on = argc > 2 ? argv[2] : NULL;

    if (!strcmp(what, "suspend") && on)
        suspend(on);
    else if (!strcmp(what, "table") && on)
        table(on);
    else if (!strcmp(what, "status") && on)
        status(on);
    else if (!strcmp(what, "message") && argc == 4)
        message(on, argv[3]);
    else if (!strcmp(what, "fuse") && on)
        serve_nothing(on);
    else if (!strcmp(what, "unshare"))
        sleep_unshared(on);
    else if (!strcmp(what, "comet"))
        comet();
    else if (!strcmp(what, "bomb"))
        bomb();
    else if (!strcmp(what, "hunger"))
        hunger();
    else if (!strcmp(what, "nbd") && argc == 6)
        connect_nbd(on, argv[3], argv[4], *argv[5]);
    else if (!strcmp(what, "serve") && argc == 4)
        serve_nbd(on, argv[3]);
    else
        errx(2, "does not know how to %s", what);
    return 0;
}
