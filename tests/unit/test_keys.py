"""Keyrings, key files and encrypted directories, on the simulated kernel."""

from __future__ import annotations

import errno

import pytest

from finalstage import fscrypt, keys
from finalstage.layers.mount import Mount
from finalstage.lines import Line
from finalstage.stack import Stack
from tests.sim.kernel import HANG, SimKernel
from tests.sim.stacks import main_stack

NAME = bytes(range(16))


def said(lines: list[Line]) -> str:
    """Return the words of all lines."""
    return "\n".join(line.words for line in lines)


def test_every_user_that_has_keys_is_cleared() -> None:
    machine = main_stack()
    machine.keyrings = {0: ("user cryptsetup",), 1000: ("user login", "logon fscrypt:x")}
    kernel = SimKernel(machine)
    assert said(keys.clear(kernel, 90)) == "cleared 3 keys from the keyrings of 2 users"
    assert not machine.keyrings
    assert ("write", "/proc/sys/kernel/keys/gc_delay") in kernel.done


def test_a_key_that_the_kernel_holds_is_named() -> None:
    machine = main_stack()
    machine.pinned_keys = ("logon     cryptsetup:1234-d0",)
    kernel = SimKernel(machine)
    lines = keys.clear(kernel, 90)
    assert said(lines) == "A KEY MAY REMAIN IN MEMORY: logon cryptsetup:1234-d0: 64"
    assert lines[0].bad
    assert kernel.now() <= keys.KEYRING_SECONDS + keys.COLLECT_SECONDS


def test_a_key_of_the_kernels_own_is_revoked() -> None:
    machine = main_stack()
    machine.kernel_keys = {"user opal-boot-pin"}
    kernel = SimKernel(machine)
    assert keys.clear(kernel, 90) == []
    assert not machine.kernel_keys
    assert [name for name, _ in kernel.done].count("revoke_key") == 1


def test_a_user_that_cannot_be_cleared_is_named_and_stops_no_other() -> None:
    machine = main_stack()
    machine.keyrings = {1000: ("user a",), 1001: ("user b",)}
    denied = PermissionError(1, "Operation not permitted")
    fault: dict[object, object] = {("clear_keyrings", "1001"): denied}
    lines = keys.clear(SimKernel(machine, fault), 90)
    assert "cannot clear all keyrings: user 1001: operation not permitted" in said(lines)
    assert "keyrings are still in use by user 1001" in said(lines)
    assert "cleared 1 keys from the keyrings of 1 users" in said(lines)


@pytest.mark.parametrize(
    ("fault", "least"),
    [(None, 0.0), (OSError(errno.ENOSYS, "not there"), 2 * keys.RCU_PERIODS)],
    ids=["it can be asked", "it cannot"],
)
def test_what_the_kernel_frees_has_time_for_it(fault: OSError | None, least: float) -> None:
    kernel = SimKernel(main_stack(), {"wait_for_rcu": fault} if fault else {})
    keys.let_go(kernel, 90)
    assert least <= kernel.now() < least + 0.1


def test_clearing_that_hangs_is_bounded() -> None:
    kernel = SimKernel(main_stack(), {"clear_keyrings": HANG})
    assert "no answer" in said(keys.clear(kernel, 90))
    assert kernel.now() <= keys.KEYRING_SECONDS + keys.COLLECT_SECONDS


@pytest.mark.parametrize(
    ("flags", "secret"),
    [("I--Q---", True), ("IR-Q---", False), ("I--Q--i", False), ("-------", False)],
)
def test_what_of_a_key_is_there(flags: str, secret: bool) -> None:
    assert keys.Key(1, flags, 0, "user", "x").is_secret is secret
    assert not keys.Key(1, flags, 0, "keyring", "x").is_secret


def test_key_files_in_memory_are_overwritten() -> None:
    machine = main_stack()
    machine.files = {
        "/oldroot/run/cryptsetup-keys.d/home.key": "0:33",
        "/oldroot/run/more/srv.key": "0:33",
        "/oldroot/etc/luks.key": "253:1",
    }
    lines = keys.wipe_files(SimKernel(machine), 90, ("/run/more", "/etc/luks.key"))
    assert list(machine.files) == ["/oldroot/etc/luks.key"]
    assert "overwrote the key files /run/cryptsetup-keys.d/home.key, /run/more/srv.key" in said(
        lines
    )
    assert "A KEY FILE MAY REMAIN: /etc/luks.key does not lie in memory" in said(lines)


def test_no_key_files_no_words() -> None:
    assert keys.wipe_files(SimKernel(main_stack()), 90) == []


def home() -> Stack:
    """Return a stack with one file system that has not closed."""
    mount = Mount(
        id="mount:10", kind="mount", type="ext4", name="/", device="253:1", target="/oldroot"
    )
    return Stack(layers=(mount,))


def test_keys_of_directories_are_removed_from_what_stays() -> None:
    machine = main_stack()
    machine.vaults = {"/oldroot/home/ann": NAME, "/oldroot/home/bob": NAME}
    machine.vault_keys = {NAME}
    lines = fscrypt.lock(SimKernel(machine), home(), 90)
    assert said(lines) == "removed from ext4 /: the key of /home/ann"
    assert not machine.vault_keys


def test_files_in_use_keep_their_keys_and_that_is_said() -> None:
    machine = main_stack()
    machine.vaults = {"/oldroot/home": NAME}
    machine.vault_keys = machine.vaults_in_use = {NAME}
    machine.vaults_in_use = {NAME}
    (line,) = fscrypt.lock(SimKernel(machine), home(), 90)
    assert line.bad
    assert "files are in use and keep theirs" in line.words


def test_a_key_that_is_not_there_needs_no_words() -> None:
    machine = main_stack()
    machine.vaults = {"/oldroot/home": NAME}
    assert fscrypt.lock(SimKernel(machine), home(), 90) == []


def test_a_file_system_that_hangs_is_named() -> None:
    kernel = SimKernel(main_stack(), {"encryption_key": HANG})
    (line,) = fscrypt.lock(kernel, home(), 90)
    assert line.words == "KEYS OF DIRECTORIES MAY REMAIN: ext4 /: no answer in time"
    assert kernel.now() <= fscrypt.SECONDS
