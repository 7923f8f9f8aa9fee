"""What people see: lines on the console, and the same as JSON records in the kernel's log."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from finalstage.kernel import Kernel

    Listener = Callable[[float, str, Mapping[str, Any]], None]

LOG_DEBUG = b"<7>"
"""Priority of the records: kept by the kernel's log, but not shown on the console once more."""

LONGEST_RECORD = 900
"""Bytes of one record that /dev/kmsg takes for sure: LOG_LINE_MAX in kernel/printk/printk.c."""


class Console:
    """Says things. `quiet` leaves out all but problems. `listen` hears each record: the time, what
    kind it is of, and its facts."""

    def __init__(
        self,
        kernel: Kernel,
        quiet: bool = False,
        listen: Listener = lambda at, event, facts: None,
    ) -> None:
        self._kernel = kernel
        self._listen = listen
        self._started = kernel.now()
        self.quiet = quiet

    def say(self, words: str, event: str = "note", **facts: object) -> None:
        """Say one line."""
        self.show(words)
        self.record(event, words=words, **facts)

    def show(self, words: str) -> None:
        """Say one line to whoever looks on, and leave it out of the log."""
        if not self.quiet:
            self._show(words)

    def problem(self, words: str, event: str = "problem", **facts: object) -> None:
        """Say one line that must be seen even if all else is quiet."""
        self._show(words)
        self.record(event, words=words, **facts)

    def record(self, event: str, **facts: object) -> None:
        """Write one JSON record to the kernel's log."""
        at = round(self.seconds(), 3)
        self._listen(at, event, facts)
        record = to_json({"at": at, "event": event, **facts})
        self._kernel.log(LOG_DEBUG + b"finalstage: " + record.encode()[:LONGEST_RECORD])

    def seconds(self) -> float:
        """Return seconds since the start."""
        return self._kernel.now() - self._started

    def _show(self, words: str) -> None:
        line = f"finalstage [{self.seconds():7.3f}] {words}\n"
        self._kernel.console(line.encode("utf-8", "backslashreplace"))


def to_json(value: object) -> str:
    """Return plain values as JSON. The json module would bring re into the PID 1 tree."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        pairs = (f"{to_json(str(key))}: {to_json(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_json, value)) + "]"
    text = str(value)
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_character, text)) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    code = ord(character)
    if code > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return f"\\u{code:04x}"
