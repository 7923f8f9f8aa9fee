#!/bin/bash
# dracut module: the initramfs carries finalstage's tree, and puts it into memory.
# shellcheck disable=SC2154  # initdir and moddir are dracut's

# Called by dracut.
check() {
    [[ -x /usr/local/sbin/finalstage ]]
}

# Called by dracut.
install() {
    /usr/local/sbin/finalstage unpack "$initdir/usr/lib/finalstage-tree" || {
        derror "finalstage is not in this initramfs"
        return 1
    }
    # eu-strip, if told to be aggressive, takes the stage's own archive for debugging symbols.
    # shellcheck disable=SC2034
    aggressive_strip=no
    # After all that others leave in /run/initramfs for the real root.
    inst_hook cleanup 99 "$moddir/stage.sh"
}
