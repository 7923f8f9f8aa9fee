"""Who else on a living system has to do with what is closed: LVM, clusters, systemd, udev, mdadm.

What is known of them is looked at; none of their programs is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from finalstage.cli.close import clusters, device_nodes, left_over, lvm
from finalstage.cli.close.returning import returning
from finalstage.kernel import Kernel
from finalstage.stack import Layer, Stack


class Neighbours:
    """All of them, as they are beside a stack. Made once a run, before anything is closed."""

    def __init__(self, kernel: Kernel, stack: Stack) -> None:
        self.kernel = kernel
        self.stack = stack
        self.names = device_nodes.names()

    def refusals(self, layers: Sequence[Layer]) -> list[str]:
        """Return why some layers must not be closed here, a line each: a cluster holds them."""
        return clusters.refusals(self.kernel, self.stack, layers)

    def returning(self, layers: Sequence[Layer]) -> list[str]:
        """Return what would bring layers back, and the command that stops it, a line each."""
        names = device_nodes.by_number(self.names)
        return list(dict.fromkeys(returning(self.kernel, self.stack, layers, names)))

    @contextmanager
    def locked(self, layers: Sequence[Layer]) -> Iterator[None]:
        """Hold LVM's locks of the volume groups of some layers.

        Raises RefusalError if somebody has one and does not give it back; it names who has.
        """
        with lvm.locked(self.kernel, list(lvm.groups(layers))):
            yield

    def settle(self, layers: Sequence[Layer]) -> list[str]:
        """Put right what is left of layers that have been closed: device nodes and links, and what
        their tools have noted of them. Return what is left of them all the same, a line each.

        Waits until udev has done its part, for device_nodes.SETTLE_SECONDS at most.
        """
        gone = [layer for layer in layers if layer.kind != "mount"]
        devices = {layer.device for layer in gone if layer.device}
        ids = {layer.id for layer in gone}
        devices |= {
            x.device for x in self.stack.layers if x.kind == "partition" and ids & {*x.below}
        }
        found = device_nodes.settle(self.kernel, self.names, devices)
        return found + left_over.note(self.kernel, gone)
