"""Loop devices on the simulated kernel: what stands on them, and what they stand on."""

from __future__ import annotations

from finalstage.kernel import Target
from finalstage.stage import run
from tests.sim.kernel import SimKernel
from tests.sim.kinds.disk import Disk
from tests.sim.kinds.dm import Dm
from tests.sim.kinds.loop import Loop
from tests.sim.kinds.mount import Mount
from tests.sim.machine import Machine
from tests.sim.properties import stack_of
from tests.sim.stacks import main_stack


def machine_with_loop(backing: str = "/oldroot/inner.img") -> Machine:
    """The main stack, and in a file of its root ext4 on LUKS."""
    machine = main_stack()
    machine.devices["7:0"] = Loop("loop0", "7:0", backing=backing, lies_on="253:1", sectors=4096)
    machine.devices["253:7"] = Dm(
        "dm-7",
        "253:7",
        ("7:0",),
        title="inner",
        targets=(Target(0, 64, "crypt"),),
        keyed=True,
    )
    machine.mounts.append(Mount(40, 10, "/oldroot/inner", "253:7"))
    return machine


def shut_down(machine: Machine) -> SimKernel:
    """Run the stage to its end."""
    kernel = SimKernel(machine)
    run(kernel, ["poweroff"], {"FINALSTAGE_PID1": "yes"})
    return kernel


def test_a_loop_device_goes_before_the_mount_of_its_file() -> None:
    kernel = shut_down(machine_with_loop())
    wanted = [
        ("umount", "/oldroot/inner"),
        ("dm_remove", "253:7"),
        ("detach_loop", "7:0"),
        ("umount", "/oldroot"),
    ]
    assert [each for each in kernel.done if each in wanted] == wanted
    assert {device.name for device in kernel.machine.devices.values()} == {"vda", "vdb"}


def test_a_deleted_file_is_found_by_where_it_was() -> None:
    kernel = shut_down(machine_with_loop("/oldroot/inner.img (deleted)"))
    assert {device.name for device in kernel.machine.devices.values()} == {"vda", "vdb"}


def test_a_loop_device_below_what_was_sealed_goes_too() -> None:
    machine = machine_with_loop()
    machine.mounts[-1].busy = True
    kernel = shut_down(machine)
    assert not machine.the(Dm, "253:7").has_key()
    assert ("detach_loop", "7:0") in kernel.done
    assert "7:0" not in machine.devices


def test_a_loop_device_that_something_holds_stays() -> None:
    machine = machine_with_loop()
    del machine.devices["253:7"]
    machine.mounts[-1].device, machine.mounts[-1].busy = "7:0", True
    kernel = shut_down(machine)
    assert ("detach_loop", "7:0") not in kernel.done
    assert "remains loop loop0: held" in "".join(kernel.said)


def test_a_loop_device_whose_file_its_own_file_system_hides_is_no_circle() -> None:
    machine = main_stack()
    machine.devices["7:0"] = Loop("loop0", "7:0", backing="/oldroot/srv/a", lies_on="254:32")
    machine.devices["254:32"] = Disk("vdc", "254:32")
    machine.mounts += [
        Mount(40, 10, "/oldroot/srv", "254:32"),
        Mount(41, 40, "/oldroot/srv", "7:0"),
    ]
    stack = stack_of(machine)
    assert set(stack.depths) == {layer.id for layer in stack.layers}
    kernel = shut_down(machine)
    assert not machine.devices["254:32"].dirty
    assert "remaining 0" in "".join(kernel.said)
