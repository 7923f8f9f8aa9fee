"""What was asked for: systemd's arguments, our own, and nonsense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finalstage import handover
from finalstage.handover import systemd
from finalstage.handover.options import BUDGETS, Options
from tests.sim.kernel import SimKernel
from tests.sim.machine import Machine


def read(*arguments: str, **machine: object) -> handover.Request:
    """Read arguments on a machine."""
    return handover.read(SimKernel(Machine(**machine)), list(arguments), {})  # type: ignore[arg-type]


def test_as_systemd_252_calls() -> None:
    request = read(
        "reboot", "--timeout=90000000us", "--log-level", "6", "--log-target", "console",
        "--log-color", "--log-location=0", "--log-time",
    )  # fmt: skip
    assert (request.verb, request.options.quiet, request.problems) == ("reboot", False, ())


def test_as_systemd_257_calls() -> None:
    request = read(
        "poweroff", "--timeout=90000000us", "--log-level", "info,console:notice",
        "--log-target=kmsg", "--log-color", "--exit-code=0",
    )  # fmt: skip
    assert (request.verb, request.options.quiet, request.problems) == ("poweroff", False, ())


@pytest.mark.parametrize(
    ("environment", "stands_in"),
    [
        ({}, False),
        ({"FINALSTAGE_STANDS_IN": "no"}, False),
        ({"FINALSTAGE_STANDS_IN": "yes"}, True),
    ],
)
def test_whether_it_stands_in(environment: dict[str, str], stands_in: bool) -> None:
    kernel = SimKernel(Machine())
    assert handover.read(kernel, ["poweroff"], environment).stands_in is stands_in


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90), ("90", 90), ("1min 30s", 90), ("1min30s", 90), ("90000000us", 90),
        ("1.5 h", 5400), ("250ms", 0.25),
        ("", 0), ("0", 0), ("-5s", 0), ("infinity", 0), ("5 parsecs", 0), ("s", 0), ("1.2.3s", 0),
    ],
)  # fmt: skip
def test_time_span(text: str, seconds: float) -> None:
    assert systemd.time_span(text) == pytest.approx(seconds)


def test_systemds_timeout_is_for_processes_not_for_us() -> None:
    request = read("poweroff", "--timeout=2s")
    assert (request.patience, request.options.budget) == (2, Options().budget)
    assert read("poweroff", "--timeout=10min").patience == Options().kill_after


def test_budget_by_option_and_by_command_line() -> None:
    by_both = read("poweroff", "--budget=40s", command_line="finalstage.timeout=50")
    assert by_both.options.budget == 40
    by_line = read("poweroff", command_line="ro finalstage.timeout=1min quiet")
    assert by_line.options.budget == 60
    assert read("poweroff", "--budget=10s").options.budget == BUDGETS[0]


def test_kill_after_by_option_and_never_most_of_the_budget() -> None:
    assert read("poweroff", command_line="finalstage.kill-after=12s").patience == 12
    assert read("poweroff", "--timeout=2s", "--kill-after=12s").patience == 2
    assert read("poweroff", "--budget=20s", "--kill-after=12s").patience == 5


def carrying(*lines: str, **machine: object) -> handover.Request:
    """Read what a tree says that carries these lines, and the kernel's command line."""
    place = {"/etc/finalstage.conf": "\n".join(lines)}
    return read("poweroff", settings=place, **machine)


def test_the_trees_configuration_comes_before_the_command_line() -> None:
    lines = "# of a machine", "", "timeout=40.5", "quiet=on", "watchdog=off", "keyfiles=/run/a b"
    assert carrying(*lines).options == Options(
        budget=40.5, quiet=True, watchdog=False, keyfiles=("/run/a b",)
    )
    both = carrying(*lines, command_line="finalstage.quiet=off finalstage.keyfiles=/run/c")
    assert not both.options.quiet
    assert both.options.keyfiles == ("/run/a b", "/run/c")
    assert carrying("quiet=off").problems == ()


def test_nonsense_in_the_trees_configuration_is_named_and_the_rest_used() -> None:
    request = carrying("timeout=soon", "width=3", "nonsense")
    assert request.options == Options(width=3)
    assert request.problems == (
        "ignoring the option 'timeout=soon' in /etc/finalstage.conf: it may be a time span, 10s to"
        " 24h",
        "ignoring the option 'nonsense' in /etc/finalstage.conf: there is no such option",
    )


def test_a_configuration_that_cannot_be_read_is_named() -> None:
    fault = {("read", "/etc/finalstage.conf"): OSError(5, "Input/output error")}
    request = handover.read(SimKernel(Machine(), fault), ["halt"], {})
    assert (request.verb, request.options) == ("halt", Options())
    assert request.problems == ("cannot read /etc/finalstage.conf: Input/output error",)


@given(st.text(), st.text())
def test_no_text_whatever_is_more_than_nonsense(lines: str, line: str) -> None:
    request = carrying(lines, command_line="finalstage." + line)
    assert request.verb == "poweroff"
    assert BUDGETS[0] <= request.options.budget <= BUDGETS[1]


def test_other_options() -> None:
    options = read(
        "reboot", "--key-left=poweroff", "--keyfiles=/run/c",
        command_line="finalstage.width=8 finalstage.scrub=never finalstage.keyfiles=/run/a:/run/b",
    ).options  # fmt: skip
    assert options == Options(
        scrub="never", width=8, key_left="poweroff", keyfiles=("/run/a", "/run/b", "/run/c")
    )


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("budget=soon", "it may be a time span, 10s to 24h"),
        ("scrub=maybe", "it may be auto, always, never"),
        ("quiet=yes", "it may be on or off"),
        ("budget=9s", "it may be a time span, 10s to 24h"),
        ("width=0", "it may be 1 to 256"),
        ("width=" + 5000 * "9", "it may be 1 to 256"),
        ("keyfiles=key", "it takes absolute paths, with : between them"),
        ("frobnicate", "there is no such option"),
    ],
)
def test_nonsense_is_named_and_the_default_taken(setting: str, remedy: str) -> None:
    for request in (
        read("halt", f"--{setting}"),
        read("halt", command_line=f"finalstage.{setting}"),
    ):
        assert request.options == Options()
        assert request.problems == (f"ignoring the option {setting!r}: {remedy}",)


@pytest.mark.parametrize("arguments", [[], ["explode"]])
def test_no_verb_means_poweroff(arguments: list[str]) -> None:
    request = read(*arguments)
    assert request.verb == "poweroff"
    assert "powering off" in request.problems[0]


def test_exit_means_poweroff() -> None:
    assert (read("exit").verb, read("exit").problems) == ("poweroff", ())


def test_second_word_is_named() -> None:
    assert read("halt", "now").problems == ("ignoring the argument 'now' after 'halt'",)


@pytest.mark.parametrize(("level", "quiet"), [("3", True), ("warning", True), ("6", False)])
def test_log_level(level: str, quiet: bool) -> None:
    assert read("halt", f"--log-level={level}").options.quiet is quiet


@pytest.mark.parametrize(
    ("arguments", "quiet"),
    [
        (["--log-level", "err,kmsg:info", "--log-target=console"], True),
        (["--log-target=null", "--log-level=6"], True),
        (["--log-target", "console"], False),
    ],
)
def test_log_target(arguments: list[str], quiet: bool) -> None:
    request = read("halt", *arguments)
    assert (request.options.quiet, request.problems) == (quiet, ())


def test_quiet_by_command_line() -> None:
    assert read("halt", command_line="finalstage.quiet").options.quiet


@pytest.mark.parametrize(
    ("environment", "verb"),
    [
        ({"RUNLEVEL": "0"}, "poweroff"),
        ({"RUNLEVEL": "0", "INIT_HALT": "POWEROFF"}, "poweroff"),
        ({"RUNLEVEL": "0", "INIT_HALT": "HALT"}, "halt"),
        ({"RUNLEVEL": "6", "INIT_HALT": "HALT"}, "reboot"),
        ({"RC_REBOOT": "YES", "RUNLEVEL": "0"}, "reboot"),
        ({"FINIT_SHUTDOWN": "halt"}, "halt"),
        ({"FINIT_SHUTDOWN": "reboot", "RUNLEVEL": "0"}, "reboot"),
    ],
)
def test_verb_by_environment(environment: dict[str, str], verb: str) -> None:
    request = handover.read(SimKernel(Machine()), [], environment)
    assert (request.verb, request.problems) == (verb, ())


@pytest.mark.parametrize(
    "environment", [{"RUNLEVEL": "2"}, {"RC_REBOOT": "no"}, {"INIT_HALT": "HALT"}]
)
def test_an_environment_that_says_nothing(environment: dict[str, str]) -> None:
    request = handover.read(SimKernel(Machine()), [], environment)
    assert request.verb == "poweroff"
    assert "no verb was given" in request.problems[0]


def recorded(content: str, *arguments: str) -> handover.Request:
    """Read with a verb in the file, and a runlevel that means reboot."""
    machine = Machine()
    machine.settings["/verb"] = content
    return handover.read(SimKernel(machine), list(arguments), {"RUNLEVEL": "6"})


def test_recorded_verb_comes_after_arguments_and_before_the_environment() -> None:
    assert recorded("halt").verb == "halt"
    assert recorded("halt", "poweroff").verb == "poweroff"
    assert recorded("").verb == "reboot"


def test_recorded_nonsense_is_named() -> None:
    request = recorded("explode")
    assert request.verb == "reboot"
    assert request.problems == ("ignoring 'explode' in /verb: not a verb",)


def test_as_sysvinit_executes_itself() -> None:
    request = recorded("reboot", "--init")
    assert (request.verb, request.problems) == ("reboot", ())


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [(["-p"], "poweroff"), (["-r"], "reboot"), (["-h"], "halt"), ([], "poweroff")],
)
def test_as_dinit_calls(arguments: list[str], verb: str) -> None:
    request = read("--system", *arguments)
    assert (request.verb, request.problems) == (verb, ())


def test_reboot_parameter_only_on_reboot() -> None:
    assert read("reboot", reboot_parameter="0 tryboot").argument == "0 tryboot"
    assert read("poweroff", reboot_parameter="0 tryboot").argument == ""
