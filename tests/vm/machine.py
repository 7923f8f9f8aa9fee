"""One QEMU machine: started or restored, spoken to, watched, saved, and its RAM read."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qemu.qmp import QMPClient
from qemu.qmp.events import EventListener

from tests.vm import ram as ram_search
from tests.vm.hardware import COMMAND_LINE, QEMU, Hardware, arguments

HALTED = b"reboot: System halted"
PANIC = b"Kernel panic - not syncing"


class GuestError(Exception):
    """The guest did not do what it was told, or not in time."""


@dataclass(frozen=True)
class State:
    """A machine saved by `Machine.save`: its RAM, and what its devices remember."""

    folder: Path

    @property
    def ram(self) -> Path:
        return self.folder / "ram"

    @property
    def devices(self) -> Path:
        return self.folder / "devices"


@dataclass(frozen=True)
class End:
    """How a machine went down: poweroff, reboot, halt, panic or deadline, and after how long."""

    kind: str
    seconds: float


def _free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Machine:
    """A running QEMU. Use it as `async with Machine(...) as machine:`; leaving kills it.

    `images` gives the raw image of each disk, and `tray` that of the disk on which the host hands
    things to the guest. The machine boots `boot`, a kernel and an initrd, or is restored from
    `state`, to which it never writes. If it is to be saved, its RAM lives in the file `ram`,
    which is then a copy of the state's, if there is one. The console goes to `log` in the end.
    With `mapped`, all RAM is there before the machine runs: as in a real one, nobody who takes some
    of it waits until this machine has found a page for it.
    """

    def __init__(
        self,
        hardware: Hardware,
        images: Mapping[str, Path],
        tray: Path,
        *,
        state: State | None = None,
        boot: tuple[Path, Path] | None = None,
        ram: Path | None = None,
        log: Path | None = None,
        read_only: bool = False,
        on_console: Callable[[bytes], None] | None = None,
        mapped: bool = False,
    ) -> None:
        self.hardware = hardware
        self.console = bytearray()
        self._state = state
        self.ram = ram or (state.ram if state else None)
        self._on_console = on_console
        self._log = log
        self._ends: dict[str, tuple[socket.socket, socket.socket]] = {}
        self._port = _free_port() if hardware.served else 0
        self._command = [QEMU, *arguments(hardware, images, tray, read_only)]
        self._command += self._connections()
        # Without a file of its own a machine maps the state's, privately: it starts at once.
        self._command += self._start(boot, private=ram is None, mapped=mapped)
        self._qmp = QMPClient("finalstage")
        self._changed = asyncio.Condition()
        self._events: list[dict[str, Any]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._serial = 0

    def _connections(self) -> Iterator[str]:
        """Arguments for the console, for the line to the guest, and for QMP."""
        for name in ("console", "control", "qmp"):
            self._ends[name] = socket.socketpair()
            yield from ("-chardev", f"socket,id={name},fd={self._ends[name][1].fileno()}")
        yield from ("-serial", "chardev:console", "-serial", "chardev:control")
        yield from ("-mon", "chardev=qmp,mode=control")

    def _start(self, boot: tuple[Path, Path] | None, private: bool, mapped: bool) -> Iterator[str]:
        """Arguments for the RAM and what is in it at first."""
        size, share = f"{self.hardware.memory}M", "off" if private else "on"
        ram = f"size={size},mem-path={self.ram},share={share},prealloc={'on' if mapped else 'off'}"
        yield from ("-object", f"memory-backend-file,id=ram,{ram}")
        if boot:
            kernel, initrd = boot
            line = f"{COMMAND_LINE} {self.hardware.command_line}".strip()
            if self.hardware.served:
                line += f" nbd={self._port}"
            yield from ("-kernel", str(kernel), "-initrd", str(initrd), "-append", line)
        else:
            yield from ("-incoming", "defer")

    async def __aenter__(self) -> Self:
        theirs = [end[1] for end in self._ends.values()]
        # setpriv: no QEMU outlives the test that started it.
        self._process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", *self._command),
            pass_fds=[end.fileno() for end in theirs],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for end in theirs:
            end.close()
        try:
            await self._open()
        except BaseException:
            await self._kill()
            raise
        return self

    async def _open(self) -> None:
        self._console = await asyncio.open_connection(sock=self._ends["console"][0])
        self._tasks.append(asyncio.create_task(self._watch_console()))
        self._control = await asyncio.open_connection(sock=self._ends["control"][0])
        listener = EventListener()
        self._qmp.register_listener(listener)
        try:
            await self._qmp.connect(self._ends["qmp"][0])
        except Exception as error:
            raise GuestError(f"QEMU did not start: {await self._complaint()}") from error
        self._tasks.append(asyncio.create_task(self._watch_events(listener)))
        if self.hardware.served:
            place = {"host": "127.0.0.1", "port": str(self._port)}
            await self.qmp("nbd-server-start", addr={"type": "inet", "data": place})
        for name in self.hardware.served:
            await self.qmp("nbd-server-add", device=name, writable=True)
        if self._state:
            await self._migration("migrate-incoming", f"exec:cat {self._state.devices}")
            await self._qmp.execute("cont")

    async def _complaint(self) -> str:
        assert self._process.stderr
        return (await self._process.stderr.read()).decode(errors="replace").strip()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._kill()

    async def _kill(self) -> None:
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        with contextlib.suppress(Exception):
            await self._qmp.disconnect()
        for end, _ in self._ends.values():
            end.close()
        if self._log:
            self._log.write_bytes(self.console)

    async def _watch_console(self) -> None:
        while piece := await self._console[0].read(1 << 16):
            self.console += piece
            if self._on_console:
                self._on_console(piece)
            await self._tell()

    async def _watch_events(self, listener: EventListener) -> None:
        async for event in listener:
            self._events.append(dict(event))
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def qmp(self, command: str, **arguments: Any) -> Any:
        """Carry out a QMP command and return its answer."""
        return await self._qmp.execute(command, arguments)

    async def flushes(self) -> dict[str, int]:
        """How many times each disk was asked to write out its cache, by its name."""
        found = {}
        for each in await self.qmp("query-blockstats"):
            name = re.search(r"/disk-(\w+)/", f"{each.get('qdev', '')}/")
            if name:
                found[name[1]] = int(each["stats"]["flush_operations"])
        return found

    # -- speaking with the guest -----------------------------------------------------------------

    async def ready(self, deadline: float = 60) -> None:
        """Wait until the guest listens, after a boot or after it has switched its root."""
        await self._answer(0, deadline)

    async def run(self, script: str, deadline: float = 60) -> str:
        """Run shell text in the guest and return what it printed.

        Raises GuestError if its status is not 0, or if no answer comes within `deadline` seconds.
        """
        self._serial += 1
        await self._write(f"{script}\n#run {self._serial}\n")
        output, status = await self._answer(self._serial, deadline)
        if status:
            raise GuestError(f"status {status} of: {script}\n{output}")
        return output

    async def become(self, script: str) -> None:
        """Let the guest's PID 1 run shell text that ends in exec. No answer will come."""
        await self._write(f"{script}\n#exec\n")

    async def _write(self, text: str) -> None:
        if len(text) > 32 << 10:
            raise ValueError("the guest's tty holds 64 KiB: use the tray")
        self._control[1].write(text.encode())
        await self._control[1].drain()

    async def _answer(self, serial: int, deadline: float) -> tuple[str, int]:
        output: list[str] = []
        try:
            async with asyncio.timeout(deadline):
                while line := (await self._control[0].readline()).decode(errors="replace"):
                    if line.startswith(f"#done {serial} "):
                        return "".join(output), int(line.split()[2])
                    output.append(line)
        except TimeoutError:
            pass
        said = "".join(output) + self._last_words()
        raise GuestError(f"the guest gave no answer in {deadline} s; last words:\n{said}")

    def _last_words(self) -> str:
        return self.console[-3000:].decode(errors="replace")

    async def seen(self, text: bytes, deadline: float = 300) -> None:
        """Wait until `text` stands on the console. Raises GuestError if it does not in so many
        seconds."""
        try:
            async with asyncio.timeout(deadline), self._changed:
                while text not in self.console:
                    await self._changed.wait()
        except TimeoutError:
            said = f"{text!r} was not said in {deadline} s; last words:\n{self._last_words()}"
            raise GuestError(said) from None

    # -- watching it go down ---------------------------------------------------------------------

    async def end(self, deadline: float) -> End:
        """Wait until the machine is down, for at most `deadline` seconds, and stop it."""
        start = time.monotonic()
        kind = "deadline"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline), self._changed:
                while not (found := self._ended()):
                    await self._changed.wait()
                kind = found
        seconds = time.monotonic() - start
        if kind == "deadline":
            await self._ask_what_hangs()
        if kind == "halt" and not await self._all_halted():
            kind = "halt announced, but processors still run"
        await self._qmp.execute("stop")
        return End(kind, seconds)

    def _ended(self) -> str | None:
        if PANIC in self.console or any(e["event"] == "GUEST_PANICKED" for e in self._events):
            return "panic"
        for event in self._events:
            if event["event"] == "SHUTDOWN":
                reason = str(event["data"]["reason"])
                return {"guest-shutdown": "poweroff", "guest-reset": "reboot"}.get(reason, reason)
        return "halt" if HALTED in self.console else None

    async def _ask_what_hangs(self) -> None:
        """Let the kernel print its blocked tasks to the console, by a serial break and a key.

        Each key's work is done when the next one's heading is seen; so the last one does nothing.
        """
        headings = {b"8": b"Changing Loglevel", b"w": b"Show Blocked State", b"h": b"HELP"}
        for key, heading in headings.items():
            await self.qmp("chardev-send-break", id="console")
            self._console[1].write(key)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self.seen(b"sysrq: " + heading)

    async def _all_halted(self) -> bool:
        """Whether every processor comes to rest in HLT, asked for at most 10 seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while True:
                    text = await self.monitor("info registers -a")
                    if text.count("HLT=1") == self.hardware.processors:
                        return True
        return False

    async def monitor(self, line: str) -> str:
        """What QEMU's monitor for people answers to `line`."""
        return str(await self.qmp("human-monitor-command", **{"command-line": line}))

    # -- saving, and its memory ------------------------------------------------------------------

    async def save(self, state: State) -> None:
        """Stop the machine and write what is needed besides its RAM file to restore it."""
        await self._qmp.execute("stop")
        await self._migration("migrate", f"exec:cat > {state.devices}")
        await self._qmp.execute("quit")
        await self._process.wait()

    async def _migration(self, command: str, uri: str) -> None:
        wanted = [{"capability": name, "state": True} for name in ("events", "x-ignore-shared")]
        await self.qmp("migrate-set-capabilities", capabilities=wanted)
        await self.qmp(command, uri=uri)
        async with asyncio.timeout(60), self._changed:
            while (status := self._migration_status()) != "completed":
                if status == "failed":
                    raise GuestError(f"{command} failed: {await self.qmp('query-migrate')}")
                await self._changed.wait()

    def _migration_status(self) -> str | None:
        found = [e["data"]["status"] for e in self._events if e["event"] == "MIGRATION"]
        return str(found[-1]) if found else None

    def memory(self) -> Iterator[bytes]:
        """The machine's RAM, in pieces, in order."""
        assert self.ram
        return ram_search.of_process(self._process.pid, self.ram)
