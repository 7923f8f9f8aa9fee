"""Who else on a living system has to do with what is closed: LVM, clusters, systemd, udev."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from finalstage.kernel import Kernel
from finalstage.stack import Layer, Stack


class Neighbours:
    """All of them, as they are beside a stack. Made once a run."""

    def __init__(self, kernel: Kernel, stack: Stack) -> None:
        self.kernel = kernel
        self.stack = stack

    def refusals(self, layers: Sequence[Layer]) -> list[str]:
        """Return why some layers must not be closed here, a line each: a cluster holds them."""
        return []

    def returning(self, layers: Sequence[Layer]) -> list[str]:
        """Return what would bring layers back, and the command that stops it, a line each."""
        return []

    @contextmanager
    def locked(self, layers: Sequence[Layer]) -> Iterator[None]:
        """Hold LVM's locks of the volume groups of some layers.

        Raises RefusalError if somebody has one and does not give it back; it names who has.
        """
        yield

    def settle(self, layers: Sequence[Layer]) -> list[str]:
        """Put right the device nodes and links of layers that have been closed, and wait until
        udev has done its part. Return what is left of them, a line each."""
        return []
