"""What each option is for, in words for people: what the manual page finalstage.toml(5) says.

What an option is called, what it may be and what it is by default stands in
finalstage/handover/options.py.
"""

from __future__ import annotations

from finalstage.cli.config import remedy
from finalstage.handover import options
from finalstage.handover.options import Option, Options, shown

SHORT = {
    "timeout": "how long all of it may take",
    "kill-after": "how long processes have to end by themselves",
    "quiet": "say only problems",
    "scrub": "overwrite free memory at the end",
    "firmware-scrub": "ask the firmware to overwrite memory, too",
    "width": "how many layers are closed at once",
    "key-left": "what to do instead of reboot where a key may remain",
    "keyfiles": "files in memory that hold keys",
    "watchdog": "use the hardware's watchdog",
    "systemd.stand-in": "run in place of systemd-shutdown",
    "systemd.shutdown-tree": "whose tree of shutdown /run/initramfs is",
    "hooks.directory": "where programs of your own lie",
    "hooks.timeout": "how long one of them may run",
    "hooks.carry": "files that they need",
    "report.place": "where the report is kept for the time after",
}
LONG = {
    "timeout": "From the moment that init hands over until the machine is down. Every phase has"
    " its share of it. When it is over, the launcher goes down by itself. As an argument it is"
    " called --budget, since systemd means something else by --timeout.",
    "kill-after": "Counted from SIGTERM; after that they get SIGKILL. It is never more than a"
    " fourth of timeout, nor more than systemd has waited for. Init has usually ended all"
    " services by then.",
    "quiet": "The console is then silent as long as all goes well. The kernel's log has"
    " everything in any case.",
    "scrub": '"auto" does it where there was encryption, "always" everywhere, "never" nowhere. It'
    " takes 20 seconds at most.",
    "firmware-scrub": "By the EFI variable MemoryOverwriteRequestControl, where the firmware has"
    " it. The next start may take longer then.",
    "width": "What they wait for can mostly be shared. 1 closes one after the other.",
    "key-left": 'With "poweroff" the machine is switched off in place of reboot or kexec: memory'
    ' that loses power forgets. With "go-on" it does what it was asked for, and says so.',
    "keyfiles": "They are overwritten and removed at the beginning, beside all those in"
    " /run/cryptsetup-keys.d. What this file and the kernel's command line name adds up.",
    "watchdog": "It resets a machine on which everything hangs. Where it is off, none is armed;"
    " one that init has armed goes on ticking, and nobody feeds it.",
    "systemd.stand-in": "`finalstage stage` mounts the launcher on"
    " /usr/lib/systemd/systemd-shutdown when systemd is about to go down, and not before:"
    " packages could not replace that program meanwhile. Where this is not set, it stays as"
    " `finalstage stage --stand-in` or `--no-stand-in` have left it.",
    "systemd.shutdown-tree": "Where dracut or mkinitcpio have a tree of shutdown of their own,"
    ' "other" leaves /run/initramfs to them, and finalstage is not called then. "finalstage"'
    " takes it.",
    "hooks.directory": "With a folder in it for each moment: start, closed, last. Programs there"
    " are carried along when staging, with their interpreters and libraries. They, and all that"
    " they need, must be root's, and nobody else may be able to write to them.",
    "hooks.timeout": "One that takes longer is ended, with all that it has started. All of one"
    " moment have an eighth of timeout together.",
    "hooks.carry": "Files and directories beside what is found by itself: what scripts execute,"
    " what programs open or load when they run. They lie in the tree where they lie on the"
    " machine. Nothing from /dev, /proc, /run or /sys can be carried.",
    "report.place": "`finalstage report` shows it then. It has names of layers, of mount points and"
    ' of processes that held something, and no secret. "efi" is an EFI variable of 4,000 bytes at'
    ' most; "pstore" has the kernel put the end of its log there, if the backend of pstore takes'
    ' what is no crash (ramoops.max_reason=4); "auto" is the first of these that the machine has,'
    ' but no pstore in EFI variables; "none" keeps nothing. A path is that of a partition, best'
    " one in /dev/disk/by-partuuid: 64 KiB at its beginning are written, if nobody has it in use"
    " and if it holds an older report, or only zeros in its first 128 KiB. Or it is that of a file"
    " on a vfat file system, such as the EFI system partition (/boot/efi/finalstage.report), which"
    " may be mounted, and need not have that file yet: it is written once that is unmounted, if it"
    " was so cleanly, and if nothing else stands on the partition. `finalstage stage` finds out by"
    " /etc/fstab, else by what is mounted, which partition that is. Of one on the kernel's command"
    " line the stage itself has to, which it can where that is still mounted: not after systemd.",
}
READERS = {
    options.STAGE: "the stage",
    options.GUARDIAN: "the launcher",
    options.STAGING: "`finalstage stage`",
}
KINDS = {
    options.SWITCH: "true or false",
    options.SPAN: "a time",
    options.NUMBER: "a whole number",
    options.CHOICE: "a word",
    options.PATH: "a path",
    options.CHOICE_OR_PATH: "a word or a path",
    options.PATHS: "a list of paths",
}


def default(option: Option) -> str:
    """Return what an option is where nothing is said, as it is written in the TOML file."""
    value = getattr(Options(), option.field)
    if isinstance(value, bool):
        return str(value).lower()
    if option.kind == options.SPAN:
        return f'"{shown(value)}"'
    return "[]" if value == () else f'"{value}"' if isinstance(value, str) else str(value)


def scdoc() -> str:
    """Return all options as the source of a part of a manual page: scdoc(5)."""
    tables: dict[str, list[Option]] = {}
    for option in options.ALL:
        tables.setdefault(option.name.rpartition(".")[0], []).append(option)
    return "".join(
        (f"## [{table}]\n\n" if table else "## Above all tables\n\n")
        + "".join(_entry(option) for option in found)
        for table, found in tables.items()
    )


def _entry(option: Option) -> str:
    key = option.name.rpartition(".")[2]
    readers = " and ".join(READERS[reader] for reader in option.readers)
    lines = (
        f"*{key}* = {escaped(KINDS[option.kind])} (default: {escaped(default(option))})",
        f"\t{escaped(SHORT[option.name].capitalize())}. {escaped(LONG[option.name])}",
        "",
        f"\tTo set it, {escaped(remedy(option))}. Read by {escaped(readers)}.",
        "",
    )
    return "".join(f"{line}\n" for line in lines)


def escaped(text: str) -> str:
    """Return text without what scdoc would take for markup."""
    return "".join(f"\\{letter}" if letter in "\\_*`#~|[]" else letter for letter in text)
