/* What the stage tells the guardian: lines in a pipe. The other end: finalstage/guardian.py.
 *
 * The stage may be broken, and so may be what it writes: nothing here trusts it, and nothing here
 * waits for it. */

#define _GNU_SOURCE
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONGEST_LINE 64 /* with its newline */
#define LONGEST_BUDGET (24 * 3600 * SECOND)

static int reader = -1;
static char line[LONGEST_LINE];
static size_t length; /* LONGEST_LINE: in a line that is too long */

int open_channel(void)
{
    int ends[2];

    close(reader); /* that of an earlier attempt */
    reader = -1;
    length = 0;
    if (pipe2(ends, O_NONBLOCK) < 0)
        return -1;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    reader = ends[0];
    return ends[1];
}

int channel(void)
{
    return reader;
}

const char *verb_named(const char *word)
{
    static const char *const verbs[] = {"poweroff", "reboot", "halt", "kexec"};

    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(word, verbs[i]))
            return verbs[i];
    return NULL;
}

static void take_in(struct told *told, char *word)
{
    char *value = strchr(word, ' ');

    if (value)
        *value++ = '\0';
    if (!strcmp(word, "alive")) {
        told->alive = 1;
    } else if (!strcmp(word, "sealed")) {
        told->sealed = 1;
    } else if (value && !strcmp(word, "verb")) {
        const char *verb = verb_named(value);

        if (verb)
            told->verb = verb;
    } else if (value && !strcmp(word, "deadline")) {
        long deadline = strtol(value, NULL, 10);

        if (deadline > 0 && deadline < (now() + LONGEST_BUDGET) / SECOND)
            told->deadline = deadline * SECOND;
    } else if (value && !strcmp(word, "phase")) {
        strncpy(told->phase, value, sizeof told->phase - 1);
        told->alive = 1;
    } else {
        return;
    }
    told->heard = now();
}

void read_channel(struct told *told)
{
    char piece[512];
    ssize_t got;

    if (reader < 0)
        return;
    /* A stage that writes without end must not keep us here. */
    for (int turns = 0; turns < 64; turns++) {
        got = read(reader, piece, sizeof piece);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
            close(reader);
            reader = -1;
        }
        if (got <= 0)
            return;
        for (ssize_t i = 0; i < got; i++) {
            if (piece[i] == '\n') {
                if (length < LONGEST_LINE) {
                    line[length] = '\0';
                    take_in(told, line);
                }
                length = 0;
            } else if (length < LONGEST_LINE - 1) {
                line[length++] = piece[i];
            } else {
                length = LONGEST_LINE;
            }
        }
    }
}
