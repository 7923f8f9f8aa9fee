"""Who must go, who may stay, and who cannot even be asked."""

from __future__ import annotations

from finalstage.processes import end_all, names, read_process
from tests.sim.kernel import HANG, SimKernel
from tests.sim.machine import Machine, Process

OURS = {
    1: Process(1, "init", 0, "/sbin/init"),
    40: Process(40, "rc", 1, "/etc/rc0"),
    50: Process(50, "stage", 40, "/usr/lib/finalstage/stage"),
}


def end(*processes: Process, faults: dict[object, object] | None = None) -> set[int]:
    """End all processes; return those that are still there, without those that must stay."""
    machine = Machine(processes=OURS | {process.pid: process for process in processes})
    end_all(SimKernel(machine, faults), 5, 10, lambda words: None)
    assert set(OURS) <= set(machine.processes)
    return set(machine.processes) - set(OURS)


def test_plain_processes_end() -> None:
    assert end(Process(100), Process(101, state="T")) == set()


def test_the_stubborn_are_killed() -> None:
    assert end(Process(100, ignores_term=True)) == set()


def test_a_shell_on_a_terminal_is_hung_up_and_not_waited_for() -> None:
    shell = Process(100, "bash", argv0="-bash", ignores_term=True, terminal=1025)
    kernel = SimKernel(Machine(processes=OURS | {100: shell, 101: Process(101)}))
    end_all(kernel, 60, 120, lambda words: None)
    assert set(kernel.machine.processes) == set(OURS)
    assert kernel.now() < 1


def test_kernel_threads_zombies_and_storage_daemons_stay() -> None:
    assert end(
        Process(2, "kthreadd", 0, "", kernel_thread=True),
        Process(100, "gone", state="Z", immortal=True, ignores_term=True),
        Process(101, "mdmon", argv0="@usr/sbin/mdmon"),
    ) == {2, 100, 101}


def test_programs_that_the_kernel_has_started_end_and_its_threads_are_hardly_looked_at() -> None:
    kthreadd = Process(2, "kthreadd", 0, "", kernel_thread=True)
    thread = Process(3, "jbd2/vda-8", 2, "", kernel_thread=True)
    program = Process(100, "modprobe", 2)
    kernel = SimKernel(Machine(processes=OURS | {2: kthreadd, 3: thread, 100: program}))
    end_all(kernel, 60, 120, lambda words: None)
    assert set(kernel.machine.processes) == {*OURS, 2, 3}
    assert ("read", "/proc/3/stat") not in kernel.done


def test_children_of_a_second_process_that_is_no_thread_end() -> None:
    assert end(Process(2, "sh"), Process(3, "sleep", 2)) == set()


def test_a_process_that_cannot_be_asked_is_no_storage_daemon() -> None:
    stuck = Process(100, "stuck", argv0="@stuck")
    assert end(stuck, Process(101), faults={("read", "/proc/100/cmdline"): HANG}) == set()


def test_sleepers_in_the_kernel_are_not_waited_for_as_long() -> None:
    machine = Machine(
        processes=OURS | {100: Process(100, state="D", immortal=True, ignores_term=True)}
    )
    kernel = SimKernel(machine)
    (left,), _ = end_all(kernel, 60, 120, lambda words: None)
    assert left.title == "sleep[100]"
    assert kernel.now() < 10


def test_a_name_may_hold_anything() -> None:
    process = read_process(SimKernel(Machine(processes={7: Process(7, "a) S 1 (b")})), 7)
    assert (process.name, process.state, process.parent) == ("a) S 1 (b", "S", 1)


def test_a_list_of_many_fits_on_a_line() -> None:
    kernel = SimKernel(Machine(processes={n: Process(n) for n in range(10, 17)}))
    processes = [read_process(kernel, n) for n in range(10, 17)]
    assert names(processes[:2]) == "sleep[10], sleep[11]"
    assert names(processes).endswith("sleep[14] and 2 more")
