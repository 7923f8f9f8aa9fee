"""The ready files for an init or an image builder: a folder of initramfs-overlay/, read whole.

`root/` in it mirrors the `/` of the machine, and install.toml says what else there is to do:

    init = ["runit"]                  basenames of the program that is PID 1, where it is this one
    init-says = "text"                and what has to be in that program
    init-has = "/run/openrc"          and what has to be there on the machine
    child-of = ["runit"]              below which of these programs finalstage is a child of init
    called-by = "text"                who executes it at shutdown, for a person
    enabled = ["etc/rc0.d/*name"]     patterns of paths; one whose folder is there has to match
    stage = false                     nothing is staged at once; default true
    [only-if]                         which files are only for machines that have another path
    [links]                           symbolic links: path = target
    [[insert]]                        lines in a file of somebody else's
    path, lines                       which, and what
    before, first                     put before the first line that is this one, or at the top,
                                      below an interpreter's name; else at the end
    create, mode                      what a file that is not there begins with, and its mode
    optional                          nothing is done where it is not there; also for divert
    [[divert]]                        a program that is moved aside while ours is in its place
    path, if-link-to                  which; what it has to be a link to, for it to be moved
    [commands]                        run on the machine that runs: each a list of words
    install, uninstall-first, uninstall-last
"""

from __future__ import annotations

import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path

from finalstage.cli import inside
from finalstage.cli.errors import RefusalError
from finalstage.cli.install.changes import Change, Divert, File, Insert, Link, arguments

DESCRIPTION = "install.toml"
PID_1 = Path("/proc/1/exe")

Command = tuple[str, ...]


@dataclass(frozen=True)
class Overlay:
    """What one folder says. `changes` are in the order in which they are made."""

    name: str
    inits: tuple[str, ...]
    init_says: str
    init_has: str
    stages: bool
    changes: tuple[Change, ...]
    install: tuple[Command, ...] = ()
    uninstall_first: tuple[Command, ...] = ()
    uninstall_last: tuple[Command, ...] = ()
    child_of: tuple[str, ...] = ()
    called_by: str = ""
    enabled: tuple[str, ...] = ()

    def missing(self, root: Path) -> list[str]:
        """Return the patterns that should match something and do not."""
        return [
            each
            for each in self.enabled
            if (root / each).parent.is_dir() and not any(root.glob(each))
        ]


def folder() -> Path:
    """Return the folder of all overlays."""
    return inside.folder("overlay", "initramfs-overlay")


def names() -> list[str]:
    """Return the names of all that can be installed."""
    return sorted(found.parent.name for found in folder().glob(f"*/{DESCRIPTION}"))


def read(name: str) -> Overlay:
    """Return the overlay of that name. Raises RefusalError if there is none."""
    if name not in names():
        raise RefusalError(f"there is nothing to install for {name!r}", f"it may be {known()}")
    place = folder() / name
    said = tomllib.loads((place / DESCRIPTION).read_text())
    commands = said.get("commands", {})
    return Overlay(
        name=name,
        inits=tuple(said.get("init", ())),
        init_says=said.get("init-says", ""),
        init_has=said.get("init-has", ""),
        stages=said.get("stage", True),
        changes=(
            *(Divert(**arguments(each)) for each in said.get("divert", ())),
            *_files(place / "root", said.get("only-if", {})),
            *(Link(path, target) for path, target in said.get("links", {}).items()),
            *(Insert(**arguments(each)) for each in said.get("insert", ())),
        ),
        install=_commands(commands, "install"),
        uninstall_first=_commands(commands, "uninstall-first"),
        uninstall_last=_commands(commands, "uninstall-last"),
        child_of=tuple(said.get("child-of", ())),
        called_by=said.get("called-by", ""),
        enabled=tuple(said.get("enabled", ())),
    )


def known() -> str:
    """Return the names of all that can be installed, for a person."""
    return ", ".join(names())


def detect() -> str:
    """Return the name of the init that runs this machine. Raises RefusalError if it is unknown."""
    try:
        program = pid_1()
        content = PID_1.read_bytes()
    except OSError as error:
        raise RefusalError(f"cannot see which init this is: {error.strerror}", _say_it()) from error
    found = [
        each
        for each in map(read, names())
        if program in each.inits
        and each.init_says.encode() in content
        and (not each.init_has or Path(each.init_has).exists())
    ]
    if found:
        return max(found, key=lambda each: bool(each.init_has)).name  # the more special one
    raise RefusalError(f"do not know the init {program!r}", _say_it())


def pid_1() -> str:
    """Return the name of the program that is PID 1. Raises OSError; only root may see it."""
    return PID_1.readlink().name.removesuffix(" (deleted)")


def _say_it() -> str:
    return f"say it with --init, which may be {known()}"


def _files(root: Path, only_if: dict[str, str]) -> list[File]:
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return [
        File(name, path.read_text(), _mode(path.stat().st_mode), only_if.get(name, ""))
        for name, path in sorted(found.items())
    ]


def _mode(mode: int) -> int:
    """Return 0o755 or 0o644, whatever the umask was of who has checked out the file."""
    return 0o755 if mode & stat.S_IXUSR else 0o644


def _commands(table: dict[str, list[list[str]]], key: str) -> tuple[Command, ...]:
    return tuple(tuple(words) for words in table.get(key, ()))
