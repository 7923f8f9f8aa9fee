"""dinit, which executes its shutdown program at the end, and finds us in its place.

Source: main() in src/dinit.cc, main() in src/shutdown.cc.
"""

from __future__ import annotations

BY_LETTER = {"-p": "poweroff", "-r": "reboot", "-h": "halt", "-k": "kexec"}


def arguments(given: list[str]) -> list[str]:
    """Return the arguments in our words, where they are dinit's: ``--system -r``."""
    if given[:1] != ["--system"]:
        return given
    return [BY_LETTER.get(word, word) for word in given[1:]] or ["poweroff"]
