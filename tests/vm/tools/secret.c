/* Puts secrets where a machine has them: keyrings, files in memory, file systems.
 *
 * The host hands them over with the top bit of each byte turned, and here each is turned back in
 * one buffer that is cleared in the end; so nothing but what holds a secret on purpose has it. */

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fscrypt.h>
#include <linux/keyctl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned char secret[FSCRYPT_MAX_KEY_SIZE];

static void take(const char *file)
{
    int from = open(file, O_RDONLY);

    if (from < 0 || read(from, secret, sizeof secret) != sizeof secret)
        err(1, "%s", file);
    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] ^= 0x80;
}

/* key UID KEYRING NAME SECRET: into user, session or persistent keyring of a user */
static void into_keyring(char **words)
{
    unsigned int uid = atoi(words[0]);
    long ring = KEY_SPEC_USER_KEYRING, key;

    take(words[3]);
    if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        err(1, "user %u", uid);
    if (!strcmp(words[1], "user-session"))
        ring = KEY_SPEC_USER_SESSION_KEYRING;
    else if (!strcmp(words[1], "persistent"))
        ring = syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, uid, KEY_SPEC_PROCESS_KEYRING);
    key = syscall(SYS_add_key, !strcmp(words[2], "logon:x") ? "logon" : "user", words[2], secret,
                  sizeof secret, ring);
    if (ring == 0 || key < 0)
        err(1, "add_key");
    if (words[4] && syscall(SYS_keyctl, KEYCTL_SET_TIMEOUT, key, atoi(words[4])) < 0)
        err(1, "timeout");
}

/* file SECRET TARGET: into a file, without a buffer between */
static void into_file(char **words)
{
    int to = open(words[1], O_RDWR | O_CREAT | O_EXCL, 0600);
    void *place;

    take(words[0]);
    if (to < 0 || ftruncate(to, sizeof secret) < 0)
        err(1, "%s", words[1]);
    place = mmap(NULL, sizeof secret, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
    if (place == MAP_FAILED)
        err(1, "%s", words[1]);
    memcpy(place, secret, sizeof secret);
}

/* directory SECRET PATH 1|2: encrypt a new directory with a policy of that version */
static void into_file_system(char **words)
{
    int old = !strcmp(words[2], "1");
    struct fscrypt_add_key_arg *key = calloc(1, sizeof *key + sizeof secret);
    struct fscrypt_policy_v1 v1 = {.version = FSCRYPT_POLICY_V1,
                                   .contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
                                   .filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
                                   .flags = FSCRYPT_POLICY_FLAGS_PAD_32,
                                   .master_key_descriptor = "finalsta"};
    struct fscrypt_policy_v2 v2 = {.version = FSCRYPT_POLICY_V2,
                                   .contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
                                   .filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
                                   .flags = FSCRYPT_POLICY_FLAGS_PAD_32 |
                                            FSCRYPT_POLICY_FLAG_IV_INO_LBLK_64};
    int directory;

    take(words[0]);
    if (mkdir(words[1], 0700) < 0 || (directory = open(words[1], O_RDONLY)) < 0)
        err(1, "%s", words[1]);
    key->raw_size = sizeof secret;
    memcpy(key->raw, secret, sizeof secret);
    key->key_spec.type = old ? FSCRYPT_KEY_SPEC_TYPE_DESCRIPTOR : FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER;
    memcpy(key->key_spec.u.descriptor, v1.master_key_descriptor, FSCRYPT_KEY_DESCRIPTOR_SIZE);
    if (ioctl(directory, FS_IOC_ADD_ENCRYPTION_KEY, key) < 0)
        err(1, "FS_IOC_ADD_ENCRYPTION_KEY");
    memcpy(v2.master_key_identifier, key->key_spec.u.identifier, FSCRYPT_KEY_IDENTIFIER_SIZE);
    explicit_bzero(key->raw, sizeof secret);
    if (ioctl(directory, FS_IOC_SET_ENCRYPTION_POLICY, old ? (void *)&v1 : (void *)&v2) < 0)
        err(1, "FS_IOC_SET_ENCRYPTION_POLICY");
}

/* mutable FILE: take the immutable flag from it */
static void make_mutable(const char *path)
{
    int file = open(path, O_RDONLY), flags;

    if (file < 0 || ioctl(file, FS_IOC_GETFLAGS, &flags) < 0)
        err(1, "%s", path);
    flags &= ~FS_IMMUTABLE_FL;
    if (ioctl(file, FS_IOC_SETFLAGS, &flags) < 0)
        err(1, "%s", path);
}

int main(int argc, char **argv)
{
    if (argc > 5 && !strcmp(argv[1], "key"))
        into_keyring(argv + 2);
    else if (argc == 4 && !strcmp(argv[1], "file"))
        into_file(argv + 2);
    else if (argc == 5 && !strcmp(argv[1], "directory"))
        into_file_system(argv + 2);
    else if (argc == 3 && !strcmp(argv[1], "mutable"))
        make_mutable(argv[2]);
    else if (argc == 2 && !strcmp(argv[1], "stay"))
        for (;;)
            pause();
    else
        errx(2, "what?");
    explicit_bzero(secret, sizeof secret);
    return 0;
}
