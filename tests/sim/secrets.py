"""What must not stay in the simulated kernel: keyrings, key files, what is in free memory."""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Callable

from finalstage.kernel import FileSystemKey, Stat
from tests.sim.faults import BlockedError, error
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine

MIB = 1 << 20


class Secrets:
    """Part of `SimKernel`: the methods of `Kernel` about what must not stay."""

    machine: Machine
    _enter: Callable[..., None]

    # Keyrings

    def clear_keyrings(self, uid: int) -> int:
        self._enter("clear_keyrings", str(uid))
        return len(self.machine.keyrings.pop(uid, ()))

    def revoke_key(self, serial: int) -> None:
        self._enter("revoke_key", str(serial))
        own = self._own_keys
        if not 1 <= serial <= len(own):
            raise error(errno.ENOKEY, str(serial))
        if own[serial - 1] in self.machine.pinned_keys:
            raise error(errno.EACCES, str(serial))
        self.machine.kernel_keys.discard(own[serial - 1])

    @property
    def _own_keys(self) -> tuple[str, ...]:
        """What /proc/keys shows to root, in that order."""
        machine = self.machine
        return (*machine.keyrings.get(0, ()), *machine.pinned_keys, *sorted(machine.kernel_keys))

    def key_text(self, path: str) -> str | None:
        """Return /proc/keys or /proc/key-users; root sees only its own keys."""
        if path == "/proc/key-users":
            counts = {uid: len(keys) for uid, keys in self.machine.keyrings.items()} | {0: 9}
            return "".join(
                f"{uid:5}: {count:5} {count}/{count} {count}/200 {20 * count}/20000\n"
                for uid, count in counts.items()
            )
        if path == "/proc/keys":
            lines = [
                f"I--Q---     1 perm 3f010000     0     0 {key}: 64\n" for key in self._own_keys
            ]
            lines.append("I------     1 perm 1f0b0000     0     0 keyring   .machine: empty\n")
            return "".join(f"{number:08x} {line}" for number, line in enumerate(lines, 1))
        return None

    # Files

    def file_names(self, path: str) -> list[str] | None:
        """List a directory in which key files or encrypted directories lie."""
        places = (*self.machine.files, *self.machine.vaults)
        below = [name[len(path) + 1 :] for name in places if name.startswith(f"{path}/")]
        names = {name.split("/")[0] for name in below}
        if path in self.machine.files:
            raise error(errno.ENOTDIR, path)
        return sorted(names) or None

    def file_stat(self, path: str) -> Stat | None:
        """Describe a key file."""
        found = self.machine.files.get(path)
        return Stat(modes.S_IFREG, found, 1, "0:0", 0) if found else None

    def overwrite_file(self, path: str) -> None:
        self._enter("overwrite_file", path)
        del self.machine.files[path]

    # Encrypted directories

    def encryption_key(self, directory: str) -> FileSystemKey:
        self._enter("encryption_key", directory, 0.0)
        if directory in self.machine.files:
            raise error(errno.ENOTDIR, directory)
        if not self.machine.vaults:
            raise error(errno.EOPNOTSUPP, directory)
        if directory not in self.machine.vaults:
            raise error(errno.ENODATA, directory)
        return FileSystemKey(2, self.machine.vaults[directory])

    def remove_encryption_key(self, directory: str, key: FileSystemKey) -> bool:
        self._enter("remove_encryption_key", key.title)
        if key.name not in self.machine.vault_keys:
            raise error(errno.ENOKEY, directory)
        self.machine.vault_keys.discard(key.name)
        return key.name in self.machine.vaults_in_use

    # Memory

    def wait_for_rcu(self) -> None:
        self._enter("wait_for_rcu", "", 0.01)

    def kernel_log(self) -> bytes:
        return self.machine.kernel_log

    def scrub_memory(self, seconds: float) -> tuple[bool, int]:
        cost = self.machine.scrub_seconds
        self._enter("scrub_memory", "", min(cost, seconds))
        self.machine.scrubbed = cost <= seconds
        return self.machine.scrubbed, 400 * MIB

    def mount_api(self, fstype: str, target: str) -> None:
        self._enter("mount_api", target)
        if fstype == "efivarfs" and not self.machine.efi:
            raise error(errno.ENODEV, target)
        self.machine.efi_mounted = True

    def make_mutable(self, path: str) -> None:
        self._enter("make_mutable", path)
        if path.startswith("/sys/firmware/efi/") and path not in self.machine.efi:
            raise error(errno.ENOENT, path)
        self.machine.immutable.discard(path)

    # What outlives the power

    def create(self, path: str, data: bytes) -> None:
        self._enter("create", path)
        machine = self.machine
        if path in machine.efi:
            raise error(errno.EEXIST, path)
        if not machine.efi_mounted or not path.startswith("/sys/firmware/efi/efivars/"):
            raise error(errno.EACCES, path)
        self.set_variable(path, data)

    def set_variable(self, path: str, data: bytes) -> None:
        """Set an EFI variable, as large as the firmware takes one."""
        if len(data) > self.machine.efi_most:
            raise error(errno.EINVAL, path)
        self.machine.efi[path] = data

    def mount_device(self, device: str, fstype: str, target: str) -> None:
        self._enter("mount_device", device)
        machine = self.machine
        if device not in machine.devices:
            raise error(errno.ENXIO, target)
        if machine.blocked(device):
            raise BlockedError(device, opens=True)
        machine.mounts.append(Mount(900, machine.mounts[0].id, target, device, fstype))

    def replace_file(self, path: str, data: bytes) -> None:
        self._enter("replace_file", path)
        mount = self.machine.resolve(path)
        if mount.readonly:
            raise error(errno.EROFS, path)
        if self.machine.blocked(mount.device):
            raise BlockedError(mount.device)
        mount.dirty = True
        files = self.machine.kept_files.setdefault(mount.device, {})
        files[path[len(mount.target) :]] = data

    def time_of_day(self) -> float:
        return 1_700_000_000.5
