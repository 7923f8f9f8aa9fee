"""The scripts by which shells complete the command line: made of its parser, by shtab.

What an argument is called in the help says what it may be: TARGET, FILE, PATH or DIR. Or it has
choices.
"""

import argparse
import shlex
import shutil

import shtab

from cffi_build import project
from finalstage import cli
from finalstage.cli.completion_verb import SCRIPTS
from finalstage.cli.install import overlay

COMPLETIONS = project.DIST / "completions"

TARGETS = r"""
sed -e 's/^[^ ]* //' -e 's/ .*//' -e '/\\012/d' -e 's/\\040/ /g' -e 's/\\011/\t/g' \
    -e 's/\\043/#/g' -e 's/\\134/\\/g' /proc/self/mounts | grep -vE '^/(proc|sys|dev)(/|$)'
for each in /dev/mapper/* /sys/class/block/*; do
    case $each in
    /sys/*/dm-*) continue ;;
    /sys/*)
        read -r sectors <"$each/size" && [ "$sectors" != 0 ] || continue
        each=/dev/$(echo "${each##*/}" | tr ! /) ;;
    esac
    [ ! -b "$each" ] || echo "$each"
done"""
"""Prints mount points, mapped devices and other block devices, a line each. A mount point with a
newline in its name is left out: no shell could complete it by lines. Devices that are empty, as
most loop devices are, are none to close."""

BASH = f"""
_finalstage_targets() {{ sh -c {shlex.quote(TARGETS)} 2>/dev/null; }}

# $1=the word as it was typed, maybe quoted; what begins with it, by lines
_finalstage_compgen() {{
  local word=${{1//\\\\/}}
  word=${{word#[\\"\\']}}
  compgen "${{@:2}}" -- "$word"
}}
_finalstage_compgen_files() {{ _finalstage_compgen "$1" -f; }}
_finalstage_compgen_dirs() {{ _finalstage_compgen "$1" -d; }}

# They are called files so that bash quotes them.
_finalstage_compgen_target_files() {{
  local word=${{1//\\\\/}} each
  word=${{word#[\\"\\']}}
  {{
    _finalstage_targets | while IFS= read -r each; do
      [[ $each != "$word"* ]] || printf '%s\\n' "$each"
    done
    [ -z "$word" ] || compgen -f -- "$word"
  }} | sort -u
}}
"""
ZSH = f"""
_finalstage_targets() {{
  local -a targets
  targets=("${{(@f)$(sh -c {shlex.quote(TARGETS)} 2>/dev/null)}}")
  _alternative 'targets:target:compadd -a targets' 'files:file:_files'
}}
"""


def fish(text: str) -> str:
    """Returns text as one word for fish, between single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


FISH = f"""
function _finalstage_targets
    set -l targets (sh -c {fish(TARGETS)} 2>/dev/null)
    printf '%s\\n' $targets
    for each in (__fish_complete_path (commandline -ct))
        set -l path (string split -m1 \\t -- $each)[1]
        contains -- (string trim -r -c / -- $path) $targets; or printf '%s\\n' $each
    end
end
"""

KINDS = {
    "TARGET": {
        "bash": "_finalstage_compgen_target_files",
        "zsh": "_finalstage_targets",
        "fish": "(_finalstage_targets)",
    },
    "FILE": {**shtab.FILE, "bash": "_finalstage_compgen_files"},
    "PATH": {**shtab.FILE, "bash": "_finalstage_compgen_files"},
    "DIR": {**shtab.DIR, "bash": "_finalstage_compgen_dirs"},
}
"""By what an argument is completed, by its name in the help."""


def build_completions() -> None:
    """Writes the script for each shell to dist/completions/SHELL."""
    shutil.rmtree(COMPLETIONS, ignore_errors=True)
    COMPLETIONS.mkdir(parents=True)
    for shell in SCRIPTS:
        (COMPLETIONS / shell).write_text(render(shell, cli.parser()))


def render(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for a shell, made of a parser, of which that makes another one."""
    mark(parser)
    preamble = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell]
    text = shtab.complete(parser, shell, preamble=preamble)
    if shell == "zsh":
        # shtab lets it complete only the first of any number of words: zshcompsys(1), _arguments.
        text = text.replace('"(*)::', '"*:').replace('"(*):', '"*:')
    return text.rstrip("\n") + "\n"


def mark(parser: argparse.ArgumentParser) -> None:
    """Says by what each argument of a parser and of its verbs is completed, and has verbs described
    in their few words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                verb.description = None
                mark(verb)
        elif "--init" in action.option_strings:
            action.choices = overlay.known().split(", ")
        elif isinstance(action.metavar, str) and action.metavar in KINDS:
            action.complete = KINDS[action.metavar]  # type: ignore[attr-defined]
