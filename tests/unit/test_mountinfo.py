"""mountinfo as the kernel writes it, and as it should never be."""

from finalstage.mountinfo import Entry, parse, unescape

LINE = (
    b"36 35 98:0 /mnt1 /mnt/a\\040b\\012c\\134 rw,noatime shared:1 - ext3 /dev/root rw,errors=x\n"
)


def test_line() -> None:
    assert parse(LINE) == [
        Entry(36, 35, "98:0", "/mnt1", "/mnt/a b\nc\\", "rw,noatime", "ext3", "/dev/root",
              "rw,errors=x")
    ]  # fmt: skip


def test_no_optional_fields_and_no_super_options() -> None:
    (entry,) = parse(b"1 0 0:1 / / rw - rootfs none\n")
    assert (entry.target, entry.fstype, entry.super_options) == ("/", "rootfs", "")


def test_odd_bytes_survive() -> None:
    (entry,) = parse(LINE.replace(b"/mnt/a", b"/mnt/\xff"))
    assert entry.target.encode("utf-8", "surrogateescape").startswith(b"/mnt/\xff")


def test_junk_is_left_out() -> None:
    junk = b"\n\x00\xff\n1 2\nx y 0:1 / / rw - ext4 none rw\n1 0 0:1 / / rw ext4 none\n"
    assert [entry.id for entry in parse(junk + LINE)] == [36]


def test_unescape_leaves_what_is_no_escape() -> None:
    assert unescape("a\\04") == "a\\04"
    assert unescape("a\\089") == "a\\089"
    assert unescape("\\134040") == "\\040"


def test_the_first_mount_of_all_is_not_on_itself() -> None:
    (entry,) = parse(b"1 1 0:2 / / rw - rootfs rootfs rw,size=219428k\n")
    assert (entry.id, entry.parent, entry.fstype) == (1, 0, "rootfs")


def test_numbers_that_are_none_are_left_out() -> None:
    """Python takes what int() does not for a digit."""
    assert (
        parse("² 1 0:2 / /odd rw - tmpfs none rw\n1 x 0:2 / / rw - tmpfs none rw\n".encode()) == []
    )
