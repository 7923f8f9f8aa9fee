"""What the launcher tells who listens: to sockets on this machine, and addresses of all forms."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "finalstage" / "launcher"
SENDER = r"""
#undef OLD_ROOT
#include "launcher.h"
#undef OLD_ROOT
#define OLD_ROOT "tmp/.."
#include "notify.c"
#include <stdarg.h>

void say(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}

int main(int argc, char **argv)
{
    notify_open(argv);
    for (int i = 0; i < argc; i++)
        notify("reboot", 500);
    return 0;
}
"""
ARGUMENTS = ("reboot", "--timeout=90000000us", "--log-level", "info")


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that tells who listens that it reboots, as often as it has arguments."""
    folder = tmp_path_factory.mktemp("sender")
    (folder / "sender.c").write_text(SENDER)
    program = folder / "sender"
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover", "-Wall", "-Werror")
    subprocess.run(
        ["gcc", "-g", *checks, f"-I{LAUNCHER}", "-o", program, folder / "sender.c"], check=True
    )
    return program


def tell(sender: Path, address: str | None, *arguments: str) -> str:
    """Have it told; return what was said about that."""
    environment = {} if address is None else {"NOTIFY_SOCKET": address}
    return subprocess.run(
        [sender, *(arguments or ARGUMENTS)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def listener(address: str | bytes) -> socket.socket:
    found = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    found.bind(address)
    found.setblocking(False)
    return found


def test_a_path(sender: Path, tmp_path: Path) -> None:
    with listener(str(tmp_path / "notify")) as end:
        assert tell(sender, str(tmp_path / "notify")) == ""
        assert end.recv(4096) == b"EXIT_STATUS=0\nX_SYSTEMD_SHUTDOWN=reboot"
        with pytest.raises(BlockingIOError):
            end.recv(4096)  # it is told once


def test_an_abstract_name(sender: Path) -> None:
    name = f"finalstage-{os.getpid()}"
    with listener(f"\0{name}") as end:
        assert tell(sender, f"@{name}") == ""
        assert end.recv(4096).startswith(b"EXIT_STATUS=0\n")


@pytest.mark.parametrize("form", [["--exit-code=7"], ["--exit-code", "7"]])
def test_exit_status_and_verb(sender: Path, tmp_path: Path, form: list[str]) -> None:
    with listener(str(tmp_path / "notify")) as end:
        tell(sender, str(tmp_path / "notify"), "exit", "--timeout=1us", *form)
        assert end.recv(4096) == b"EXIT_STATUS=7\nX_SYSTEMD_SHUTDOWN=exit"


def test_the_reboot_parameter(sender: Path, tmp_path: Path) -> None:
    script = (
        "mount -t tmpfs run /run; mkdir /run/systemd; echo '0 tryboot' >/run/systemd/reboot-param;"
        f"exec {sender} reboot"
    )
    with listener(str(tmp_path / "notify")) as end:
        subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            check=True,
        )
        assert end.recv(4096).endswith(b"\nX_SYSTEMD_REBOOT_PARAMETER=0 tryboot")


def test_who_does_not_read_is_not_waited_for(sender: Path, tmp_path: Path) -> None:
    with (
        listener(str(tmp_path / "notify")),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own,
    ):
        own.connect(str(tmp_path / "notify"))
        own.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                own.send(b"x")
        assert tell(sender, str(tmp_path / "notify"), "reboot") == ""


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/nowhere/notify", "No such file or directory"),
        ("@finalstage-nobody", "Connection refused"),
        ("/" + "x" * 200, "File name too long"),
        ("tcp:1.2.3.4:5", "Protocol error"),
        ("vsock:nonsense", "Protocol error"),
    ],
)
def test_who_cannot_be_reached_is_named(sender: Path, address: str, reason: str) -> None:
    assert tell(sender, address) == f"cannot reach who listens at {address}: {reason}"


@pytest.mark.parametrize("address", [None, ""])
def test_without_a_listener(sender: Path, address: str | None) -> None:
    assert tell(sender, address) == ""
