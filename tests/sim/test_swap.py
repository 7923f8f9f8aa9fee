"""Swap areas: which is which, and what there is memory for."""

from __future__ import annotations

import errno
import os

from finalstage.kernel import Target
from finalstage.stage import run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.swap import Swap
from tests.sim.machine import Machine
from tests.sim.stacks import bare_machine


def swapping(path: str, used: int = 0) -> Machine:
    """A machine with swap on an encrypted device."""
    machine = bare_machine()
    machine.devices = {
        "8:0": Disk("vda", "8:0"),
        "253:0": Dm("dm-0", "253:0", ("8:0",), targets=(Target(0, 8, "crypt"),), keyed=True),
    }
    machine.swaps = [Swap(path, "253:0", used=used)]
    return machine


class Forgetful(SimKernel):
    """A kernel whose swap holds nothing but what is in the file system at /oldroot/mem."""

    def umount(self, target: str, detach: bool = False, force: bool = False) -> None:
        super().umount(target, detach, force)
        if target == "/oldroot/mem":
            self.machine.swaps[0].used = 0


def shut_down(kernel: SimKernel) -> str:
    """Run the stage to its end, and return what it said."""
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return "".join(kernel.said)


def test_one_whose_node_was_deleted_is_found_by_the_name_of_its_device() -> None:
    said = shut_down(SimKernel(swapping("/oldroot/dev/dm-0 (deleted)")))
    assert "closed swap" in said
    assert "remaining 0, keys left 0" in said


def test_what_does_not_fit_into_memory_waits_for_the_file_system_that_it_belongs_to() -> None:
    """Which does not go first by itself, since another one is mounted on it."""
    machine = swapping("/oldroot/dev/dm-0", used=2 << 20)
    machine.devices["8:16"] = Disk("vdb", "8:16")
    machine.mounts += [
        Mount(10, 1, "/oldroot/mem", "0:40", "tmpfs"),
        Mount(11, 10, "/oldroot/mem/on", "8:16"),
    ]
    said = shut_down(Forgetful(machine))
    assert "remaining 0, keys left 0" in said


def test_what_never_fits_stays_and_is_sealed() -> None:
    machine = swapping("/oldroot/dev/dm-0", used=2 << 20)
    kernel = SimKernel(machine)
    said = shut_down(kernel)
    assert not [what for what, _ in kernel.done if what == "swapoff"]
    assert "remains swap /dev/dm-0: no memory for 2048 mib that are in it" in said
    assert not machine.devices["253:0"].has_key()


def test_strict_reckoning_is_overcome() -> None:
    class Strict(SimKernel):
        def swapoff(self, path: str, device: str = "") -> None:
            if ("write", "/proc/sys/vm/overcommit_memory") not in self.done:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), path)
            super().swapoff(path, device)

    machine = swapping("/oldroot/dev/dm-0")
    machine.settings["/proc/sys/vm/overcommit_memory"] = "2"
    assert "remaining 0, keys left 0" in shut_down(Strict(machine))
