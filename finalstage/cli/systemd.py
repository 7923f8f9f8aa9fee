"""systemd, asked what it knows of a unit, over the socket that `systemctl` uses as root.

Nothing is changed by asking. Sources: org.freedesktop.systemd1(5), bus_init_private() in
src/core/dbus.c, systemd.unit(5) on how paths are escaped.
"""

from __future__ import annotations

import os
import socket
import string
from collections.abc import Iterable
from errno import ECONNRESET
from typing import Any, NamedTuple

SOCKET = "/run/systemd/private"
RUNS = "/run/systemd/system"
"""There where PID 1 is systemd: sd_booted(3)."""

SECONDS = 5.0
"""How long it may take for one answer."""

MANAGER = "/org/freedesktop/systemd1"
NAME = "org.freedesktop.systemd1"
ACTIVE = frozenset(("active", "activating", "reloading"))
NO_FILE = ("", "/proc/self/mountinfo", "/proc/swaps")
"""What stands for the file of a unit that is only there because somebody else has mounted it."""

KEPT = frozenset(string.ascii_letters + string.digits + ":_.")


class Unit(NamedTuple):
    """What it says of a unit. `files` are where it is written down, first what it was generated
    from; `needed_by` are the units for which it is started, and `starters` those that start it by
    themselves: timers, sockets, automounts. `restart` is that of a service."""

    name: str
    is_active: bool
    files: tuple[str, ...]
    needed_by: tuple[str, ...]
    starters: tuple[str, ...]
    restart: str


def is_here() -> bool:
    """Whether systemd is PID 1, and this is not a root of another system."""
    return os.path.isdir(RUNS)


def escape(path: str) -> str:
    """Return a path as it stands in the names of units, as systemd-escape --path does."""
    parts = "/".join(part for part in path.split("/") if part)
    return escape_word(parts) if parts else "-"


def escape_word(word: str) -> str:
    """Return a word as it stands behind the @ in the name of a unit."""
    found = ""
    for place, byte in enumerate(word.encode("utf-8", "surrogateescape")):
        character = chr(byte)
        if character == "/":
            found += "-"
        elif character in KEPT and not (character == "." and place == 0):
            found += character
        else:
            found += f"\\x{byte:02x}"
    return found


class Systemd:
    """A conversation with it. All methods raise OSError if it does not answer as it should."""

    def __init__(self) -> None:
        from jeepney.low_level import Parser

        self._parser = Parser()
        self._socket = _connect()
        self._serial = 0
        self._known: dict[str, Unit | None] = {}

    def close(self) -> None:
        """End it."""
        self._socket.close()

    def unit(self, name: str) -> Unit | None:
        """Return what is known of a unit, or None if there is none of that name, or it has nothing
        to do just now."""
        if name not in self._known:
            self._known[name] = self._ask(name)
        return self._known[name]

    def units(self, names: Iterable[str]) -> list[Unit]:
        """Return those of some units that are known."""
        return [unit for name in names if (unit := self.unit(name))]

    def _ask(self, name: str) -> Unit | None:
        place = self._call(MANAGER, f"{NAME}.Manager", "GetUnit", name)
        if place is None:
            return None
        of = self._properties(place, "Unit")
        if not of:
            return None  # it has just been forgotten
        service = self._properties(place, "Service") if name.endswith(".service") else {}
        return Unit(
            name=of["Id"],
            is_active=of["ActiveState"] in ACTIVE,
            files=tuple(x for x in (of["SourcePath"], of["FragmentPath"]) if x not in NO_FILE),
            needed_by=tuple(dict.fromkeys(of["RequiredBy"] + of["WantedBy"] + of["BoundBy"])),
            starters=tuple(of["TriggeredBy"]),
            restart=service.get("Restart", "no"),
        )

    def _properties(self, place: str, kind: str) -> dict[str, Any]:
        found = self._call(place, "org.freedesktop.DBus.Properties", "GetAll", f"{NAME}.{kind}")
        return {name: value for name, (_signature, value) in (found or {}).items()}

    def _call(self, place: str, interface: str, method: str, word: str) -> Any:
        """Call a method that takes a word, and return its answer; None if it says no."""
        from jeepney import DBusAddress, MessageType, new_method_call

        self._serial += 1
        message = new_method_call(DBusAddress(place, NAME, interface), method, "s", (word,))
        self._socket.sendall(message.serialise(self._serial))
        answer = self._answer()
        return None if answer.header.message_type is MessageType.error else answer.body[0]

    def _answer(self) -> Any:
        """Return what it answers to the last call. It tells of other things too."""
        from jeepney import HeaderFields

        while True:
            message = self._parser.get_next_message()
            if message is None:
                self._parser.add_data(_some(self._socket))
            elif message.header.fields.get(HeaderFields.reply_serial) == self._serial:
                return message


def _connect() -> socket.socket:
    from jeepney.auth import BEGIN, Authenticator

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(SECONDS)
        connection.connect(SOCKET)
        # All at once, as systemctl does: what comes behind BEGIN in the same read would lie in
        # systemd's buffer until more comes. Source: bus_socket_read_auth() in bus-socket.c.
        talk = Authenticator()
        connection.sendall((talk.data_to_send() or b"") + BEGIN)
        while not talk.authenticated:
            talk.feed(_some(connection))
    except ValueError as error:  # it does not let us in
        connection.close()
        raise PermissionError(str(error)) from error
    except OSError:
        connection.close()
        raise
    return connection


def _some(connection: socket.socket) -> bytes:
    """Return what comes next; never nothing."""
    piece = connection.recv(1 << 16)
    if not piece:
        raise ConnectionResetError(ECONNRESET, "systemd has closed the connection")
    return piece
