"""What no stable interface of the kernel closes: flushed, and named as what holds the rest."""

from __future__ import annotations

from finalstage.kernel import Target
from finalstage.stage import run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.drbd import Drbd
from tests.sim.kinds.mount import Mount
from tests.sim.kinds.zfs import Pool
from tests.sim.machine import Device, Machine
from tests.sim.stacks import bare_machine

CRYPT = Target(0, 8, "crypt")


def on_crypt(*devices: Device) -> Machine:
    """A machine with an encrypted device, and others on it."""
    machine = bare_machine()
    crypt = Dm("dm-0", "253:0", ("8:0",), title="vault", targets=(CRYPT,), keyed=True)
    for device in (Disk("vda", "8:0"), crypt, *devices):
        machine.devices[device.device] = device
    return machine


def shut_down(machine: Machine) -> tuple[SimKernel, str]:
    """Run the stage on a machine to its end; return also what it said."""
    kernel = SimKernel(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel, "".join(kernel.said)


def test_drbd_is_flushed_and_what_it_lies_on_is_sealed() -> None:
    machine = on_crypt(Drbd("drbd0", "147:0", ("253:0",)))
    machine.mounts.append(Mount(10, 1, "/oldroot", "147:0"))
    kernel, said = shut_down(machine)
    assert "closed ext4 /" in said
    assert ("flush", "147:0") in kernel.done
    assert "remains drbd drbd0: only drbdsetup takes it down" in said
    assert "remains error vault: held; held by drbd drbd0" in said
    assert "wiped the key of crypt vault" in said
    assert "keys left 0" in said


def test_a_pool_is_named_where_nobody_is_seen_to_hold_a_device() -> None:
    machine = on_crypt()
    machine.others.append(Pool("tank", ("253:0",)))
    machine.mounts.append(Mount(10, 1, "/oldroot", "0:40", "zfs"))
    _, said = shut_down(machine)
    assert "closed zfs /" in said
    assert "remains zpool tank: only zpool exports it" in said
    assert "remains error vault: busy; held by perhaps zpool tank" in said
    assert "wiped the key of crypt vault" in said
    assert "keys left 0" in said


def test_a_volume_of_a_pool_is_flushed() -> None:
    machine = bare_machine()
    machine.devices["230:0"] = Disk("zd0", "230:0")
    machine.others.append(Pool("tank", ()))
    machine.mounts.append(Mount(10, 1, "/oldroot", "230:0"))
    kernel, said = shut_down(machine)
    assert kernel.done.index(("umount", "/oldroot")) < kernel.done.index(("flush", "230:0"))
    assert "remains zpool tank" in said


def test_a_target_for_other_machines_is_named_where_nobody_is_seen_to_hold_a_device() -> None:
    machine = on_crypt()
    machine.others.append(Pool("hidden", ("253:0",)))
    machine.settings["/sys/module/nvmet/refcnt"] = "2"

    class Blind(SimKernel):
        def listdir(self, path: str) -> list[str]:
            return super().listdir(path if path != "/proc/spl/kstat/zfs" else "/nowhere")

    kernel = Blind(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    said = "".join(kernel.said)
    assert "remains error vault: busy; held by perhaps nvmet, which serves other machines" in said


def test_a_target_that_serves_nobody_is_not_named() -> None:
    machine = on_crypt()
    machine.others.append(Pool("tank", ("253:0",)))
    machine.settings["/sys/module/nvmet/refcnt"] = "0"
    _, said = shut_down(machine)
    assert "nvmet" not in said
