"""What mypy sees of the compiled extension (cffi_build/topics)."""

from typing import Any

class Lib:
    MS_RDONLY: int
    MS_NOSUID: int
    MS_NODEV: int
    MS_NOEXEC: int
    MS_NOATIME: int
    MS_NODIRATIME: int
    MS_RELATIME: int
    MS_REMOUNT: int
    MS_BIND: int
    MS_MOVE: int
    MS_PRIVATE: int
    MNT_FORCE: int
    MNT_DETACH: int
    UMOUNT_NOFOLLOW: int
    DM_LIST_DEVICES: int
    DM_DEV_REMOVE: int
    DM_DEV_STATUS: int
    DM_DEV_SUSPEND: int
    DM_TABLE_LOAD: int
    DM_TABLE_CLEAR: int
    DM_TABLE_STATUS: int
    DM_TARGET_MSG: int
    DM_READONLY_FLAG: int
    DM_SUSPEND_FLAG: int
    DM_ACTIVE_PRESENT_FLAG: int
    DM_INACTIVE_PRESENT_FLAG: int
    DM_BUFFER_FULL_FLAG: int
    DM_SKIP_LOCKFS_FLAG: int
    DM_NOFLUSH_FLAG: int
    DM_SECURE_DATA_FLAG: int
    DM_VERSION_MAJOR: int
    STOP_ARRAY: int
    NBD_CLEAR_SOCK: int
    NBD_DISCONNECT: int
    SG_SCSI_RESET: int
    SG_SCSI_RESET_DEVICE: int
    PCI_BASE_ADDRESS_0: int
    PCI_BASE_ADDRESS_1: int
    PCI_BASE_ADDRESS_MEM_TYPE_64: int
    LOOP_CLR_FD: int
    MEMBARRIER_CMD_GLOBAL: int
    KEYCTL_GET_KEYRING_ID: int
    KEYCTL_REVOKE: int
    KEYCTL_DESCRIBE: int
    KEYCTL_CLEAR: int
    KEYCTL_LINK: int
    KEYCTL_READ: int
    KEYCTL_INVALIDATE: int
    KEYCTL_GET_PERSISTENT: int
    KEY_SPEC_THREAD_KEYRING: int
    KEY_SPEC_PROCESS_KEYRING: int
    KEY_SPEC_SESSION_KEYRING: int
    KEY_SPEC_USER_KEYRING: int
    KEY_SPEC_USER_SESSION_KEYRING: int
    FS_IOC_GETFLAGS: int
    FS_IOC_SETFLAGS: int
    FS_IMMUTABLE_FL: int
    FSCRYPT_KEY_IDENTIFIER_SIZE: int
    FSCRYPT_KEY_REMOVAL_STATUS_FLAG_FILES_BUSY: int
    MCL_CURRENT: int
    MCL_FUTURE: int
    LINUX_REBOOT_CMD_POWER_OFF: int
    LINUX_REBOOT_CMD_HALT: int
    LINUX_REBOOT_CMD_RESTART: int
    LINUX_REBOOT_CMD_RESTART2: int
    LINUX_REBOOT_CMD_KEXEC: int

    def mount(self, source: Any, target: bytes, fstype: Any, flags: int, data: Any) -> int: ...
    def umount2(self, target: bytes, flags: int) -> int: ...
    FIFREEZE: int
    FITHAW: int
    def syncfs(self, fd: int) -> int: ...
    def tcdrain(self, fd: int) -> int: ...
    def swapoff(self, path: bytes) -> int: ...
    def sys_fsopen(self, fstype: bytes) -> int: ...
    def sys_fsconfig_string(self, fs: int, key: bytes, value: bytes) -> int: ...
    def sys_fsconfig_create(self, fs: int) -> int: ...
    def sys_fsmount(self, fs: int) -> int: ...
    def sys_open_tree(self, path: bytes) -> int: ...
    def sys_move_mount(self, source: int, target: bytes) -> int: ...
    def ioctl(self, fd: int, request: int, *arguments: Any) -> int: ...
    def sys_keyctl(self, operation: int, a: int, b: Any, c: int) -> int: ...
    def sys_membarrier(self, command: int) -> int: ...
    def sys_setresuid(self, real: int, effective: int, saved: int) -> int: ...
    def fscrypt_get_key(self, directory: int, type: Any, name: Any) -> int: ...
    def fscrypt_remove_key(
        self, directory: int, type: int, name: bytes, size: int, status: Any
    ) -> int: ...
    def mlockall(self, flags: int) -> int: ...
    def sys_reboot(self, command: int, argument: Any) -> int: ...

class FFI:
    NULL: Any
    errno: int
    def new(self, ctype: str, init: Any = ...) -> Any: ...
    def cast(self, ctype: str, value: Any) -> Any: ...
    def sizeof(self, ctype: Any) -> int: ...
    def string(self, cdata: Any, maxlen: int = ...) -> bytes: ...
    def memmove(self, dest: Any, src: Any, n: int) -> None: ...
    def buffer(self, cdata: Any, size: int = ...) -> Any: ...

lib: Lib
ffi: FFI
