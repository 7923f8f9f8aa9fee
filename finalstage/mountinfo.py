"""/proc/self/mountinfo, parsed. Format: Documentation/filesystems/proc.rst, section 3.5."""

from __future__ import annotations

from finalstage.value import Value


class Entry(Value):
    """One line: a mount of a file system at a place. The first of all has the parent 0, though
    the kernel lets it be its own: alloc_vfsmnt() in fs/namespace.c."""

    id: int
    parent: int
    device: str
    root: str
    target: str
    options: str
    fstype: str
    source: str
    super_options: str


def unescape(field: str) -> str:
    """Undo mangle(): space, tab, newline, backslash and # stand as three octal digits."""
    if "\\" not in field:
        return field
    pieces = field.split("\\")
    text = pieces[0]
    for piece in pieces[1:]:
        digits = piece[:3]
        if len(digits) == 3 and all(digit in "01234567" for digit in digits):
            text += chr(int(digits, 8)) + piece[3:]
        else:
            text += "\\" + piece
    return text


def parse(text: bytes) -> list[Entry]:
    """Return the entries in the file's order: a mount stands after the one it was mounted on.

    Lines that are not understood are left out: a scan never fails on one odd mount.
    """
    entries = []
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        front, dash, back = line.partition(" - ")
        fields = front.split(" ")
        last = back.split(" ")
        if not dash or len(fields) < 6 or len(last) < 2:
            continue
        try:
            id, parent = int(fields[0]), int(fields[1])
        except ValueError:
            continue
        entries.append(
            Entry(
                id=id,
                parent=parent if parent != id else 0,
                device=fields[2],
                root=unescape(fields[3]),
                target=unescape(fields[4]),
                options=fields[5],
                fstype=unescape(last[0]),
                source=unescape(last[1]),
                super_options=last[2] if len(last) > 2 else "",
            )
        )
    return entries
