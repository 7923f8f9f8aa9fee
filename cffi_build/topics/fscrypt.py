"""Keys that file systems hold, <linux/fscrypt.h>, and the flags of a file, <linux/fs.h>."""

SOURCE = """
#include <linux/fs.h>
#include <linux/fscrypt.h>
#include <string.h>
#include <sys/ioctl.h>

/* Both kinds of policy name their key by some bytes of their own length. */
static int fscrypt_get_key(int directory, unsigned int *type, unsigned char *name)
{
    struct fscrypt_get_policy_ex_arg arg = {.policy_size = sizeof arg.policy};

    if (ioctl(directory, FS_IOC_GET_ENCRYPTION_POLICY_EX, &arg) < 0)
        return -1;
    if (arg.policy.version == FSCRYPT_POLICY_V1) {
        *type = FSCRYPT_KEY_SPEC_TYPE_DESCRIPTOR;
        memcpy(name, arg.policy.v1.master_key_descriptor, FSCRYPT_KEY_DESCRIPTOR_SIZE);
        return FSCRYPT_KEY_DESCRIPTOR_SIZE;
    }
    *type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER;
    memcpy(name, arg.policy.v2.master_key_identifier, FSCRYPT_KEY_IDENTIFIER_SIZE);
    return FSCRYPT_KEY_IDENTIFIER_SIZE;
}

static int fscrypt_remove_key(int directory, unsigned int type, const unsigned char *name,
                              int size, unsigned int *status)
{
    struct fscrypt_remove_key_arg arg = {.key_spec = {.type = type}};
    int result;

    memcpy(&arg.key_spec.u, name, size);
    result = ioctl(directory, FS_IOC_REMOVE_ENCRYPTION_KEY_ALL_USERS, &arg);
    *status = arg.removal_status_flags;
    return result;
}
"""

CDEF = """
#define FS_IOC_GETFLAGS ...
#define FS_IOC_SETFLAGS ...
#define FS_IMMUTABLE_FL ...

#define FSCRYPT_KEY_IDENTIFIER_SIZE ...
#define FSCRYPT_KEY_REMOVAL_STATUS_FLAG_FILES_BUSY ...

int fscrypt_get_key(int directory, unsigned int *type, unsigned char *name);
int fscrypt_remove_key(int directory, unsigned int type, const unsigned char *name, int size,
                       unsigned int *status);
"""
