"""A kernel that is nothing but files, for what only reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finalstage.cli.check.readiness import Machine
from finalstage.cli.config import Configuration
from finalstage.cli.setup import Setup
from finalstage.cli.staged.carried import Carried
from finalstage.handover.options import Options
from finalstage.kernel import Stat
from finalstage.stack import Layer, Stack


class Files:
    """Files by their paths: what is in each, or the error that it gives. A link is one of `links`,
    and `log` is what the kernel's log says."""

    pid = 99

    def __init__(
        self,
        files: Mapping[str, str | bytes | OSError],
        links: Mapping[str, str] | None = None,
        log: bytes = b"",
    ) -> None:
        self.files = dict(files)
        self.links = dict(links or {})
        self.log_said = log

    def read(self, path: str) -> bytes:
        found = self.files.get(path, FileNotFoundError(2, "", path))
        if isinstance(found, OSError):
            raise found
        return found.encode() if isinstance(found, str) else found

    def stat(self, path: str) -> Stat:
        if path not in self.files and not self._below(path):
            raise FileNotFoundError(2, "", path)
        return Stat(0, "0:1", 1, "0:0", 0)

    def listdir(self, path: str) -> list[str]:
        found = self.files.get(path)
        if isinstance(found, OSError):
            raise found
        if not self._below(path):
            raise FileNotFoundError(2, "", path)
        return sorted(self._below(path))

    def readlink(self, path: str) -> str:
        try:
            return self.links[path]
        except KeyError:
            raise FileNotFoundError(2, "", path) from None

    def kernel_log(self) -> bytes:
        return self.log_said

    def _below(self, folder: str) -> set[str]:
        start = folder.rstrip("/") + "/"
        paths = [path for path in (*self.files, *self.links) if path.startswith(start)]
        return {path[len(start) :].partition("/")[0] for path in paths}


def machine(
    files: Mapping[str, str | bytes | OSError] | None = None,
    layers: tuple[Layer, ...] = (),
    *,
    links: Mapping[str, str] | None = None,
    log: bytes = b"",
    as_root: bool = True,
    init: str = "systemd",
    problems: tuple[str, ...] = (),
    blind: bool = False,
    **options: object,
) -> Machine:
    """Return a machine with these files, layers and options of ours."""
    chosen = Options(**options)  # type: ignore[arg-type]
    configuration = Configuration(Path("/etc/finalstage.toml"), {}, (), chosen, {})
    return Machine(
        kernel=Files(files or {}, links, log),  # type: ignore[arg-type]
        setup=Setup(configuration, Carried(), (), ()),
        stack=Stack(layers, problems, blind),
        as_root=as_root,
        init=init,
    )
