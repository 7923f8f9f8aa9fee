"""The real thing: a real kernel in QEMU, real md, dm, LVM and LUKS, handed over and judged."""
