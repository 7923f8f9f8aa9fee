"""Who called us, and what do they want: a module for each way in which that is told.

The verb comes from the arguments, else from a file in the tree, else from init's environment.
"""

from __future__ import annotations

from finalstage.handover import dinit, finit, openrc, recorded, systemd, sysvinit
from finalstage.handover.options import CONFIGURATION, Options
from finalstage.handover.options import read as read_options
from finalstage.value import Value
from finalstage.world import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from finalstage.kernel import Kernel

PATIENCE_SHARE = 1 / 4
"""How much of the whole processes may take at most to end by themselves."""

VERBS = {
    "poweroff": "poweroff",
    "halt": "halt",
    "reboot": "reboot",
    "kexec": "kexec",
    "exit": "poweroff",
}
"""What can be asked for, and what it means. ``exit`` is for containers, which end either way."""

BY_ENVIRONMENT = (finit, openrc, sysvinit)
"""Each has a function that returns what the environment says. RUNLEVEL comes last: OpenRC and finit
may have set it for others."""

PREFIX = "finalstage."

REBOOT_PARAMETER = ("/run/systemd/reboot-param", "/oldroot/run/systemd/reboot-param")


class Request(Value):
    """What was asked for. `problems` are the parts that made no sense, to be said aloud.

    `patience` is how many seconds processes may take to end by themselves. `stands_in` says that
    systemd has executed us in place of systemd-shutdown, which has done nothing of what it does
    then.
    """

    verb: str
    argument: str = ""
    options: Options = Options()
    patience: float = Options().kill_after
    as_pid1: bool = False
    stands_in: bool = False
    problems: tuple[str, ...] = ()


def read(kernel: Kernel, arguments: list[str], environment: Mapping[str, str]) -> Request:
    """Return the request. Never raises: whatever makes no sense becomes the safest default."""
    words = systemd.parse(dinit.arguments(sysvinit.arguments(arguments)))
    problems = list(words.problems)
    options = Options(quiet=words.quiet)
    options = read_options(
        options, _configuration(kernel, problems), problems, f" in {CONFIGURATION}"
    )
    options = read_options(options, _command_line(kernel, problems), problems)
    options = read_options(options, words.settings, problems)
    patience = min(options.kill_after, options.budget * PATIENCE_SHARE)
    word = words.verb or _elsewhere(kernel, environment, problems)
    verb = _verb(kernel, word, problems)
    return Request(
        verb=verb,
        argument=_reboot_parameter(kernel, problems) if verb == "reboot" else "",
        options=options,
        patience=min(words.timeout or patience, patience),
        as_pid1=environment.get("FINALSTAGE_PID1") == "yes",
        stands_in=environment.get("FINALSTAGE_STANDS_IN") == "yes",
        problems=tuple(problems),
    )


def _elsewhere(kernel: Kernel, environment: Mapping[str, str], problems: list[str]) -> str:
    """Return the verb where no argument says it."""
    try:
        word = recorded.verb(kernel)
    except OSError as error:
        problems.append(f"cannot read {recorded.PLACE}: {error.strerror}")
        word = ""
    if word and word not in VERBS:
        problems.append(f"ignoring {word!r} in {recorded.PLACE}: not a verb")
        word = ""
    return word or next(
        (found for module in BY_ENVIRONMENT if (found := module.verb(environment))), ""
    )


def _verb(kernel: Kernel, word: str, problems: list[str]) -> str:
    if word not in VERBS:
        said = f"{word!r} is not a verb" if word else "no verb was given"
        problems.append(f"{said} (poweroff, halt, reboot, kexec, exit): powering off")
        return "poweroff"
    verb = VERBS[word]
    if verb == "kexec" and not _kexec_loaded(kernel):
        problems.append("no kernel is loaded for kexec: rebooting")
        return "reboot"
    return verb


def _kexec_loaded(kernel: Kernel) -> bool:
    try:
        return text(kernel, "/sys/kernel/kexec_loaded") == "1"
    except OSError:
        return False


def _configuration(kernel: Kernel, problems: list[str]) -> list[str]:
    """Return the settings that the tree carries, if any."""
    try:
        lines = text(kernel, CONFIGURATION).split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"cannot read {CONFIGURATION}: {error.strerror}")
        return []
    return [line for line in lines if line and not line.startswith("#")]


def _command_line(kernel: Kernel, problems: list[str]) -> list[str]:
    """Return the settings on the kernel's command line, without the prefix."""
    try:
        return settings_on(text(kernel, "/proc/cmdline"))
    except OSError as error:
        problems.append(f"cannot read the kernel's command line: {error.strerror}")
        return []


def settings_on(command_line: str) -> list[str]:
    """Return the settings on a command line, without the prefix."""
    return [word[len(PREFIX) :] for word in command_line.split() if word.startswith(PREFIX)]


def _reboot_parameter(kernel: Kernel, problems: list[str]) -> str:
    """Return what `systemctl reboot ARGUMENT` left for reboot(2): systemd, reboot-util.c."""
    for path in REBOOT_PARAMETER:
        try:
            return text(kernel, path)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"cannot read {path}: {error.strerror}")
    return ""
