#!/bin/bash
# dracut module: the initramfs carries finalstage's tree, and puts it into memory.
# shellcheck disable=SC2034,SC2154  # variables of dracut's own

# Called by dracut.
check() {
    [[ -x /usr/local/sbin/finalstage ]]
}

# Called by dracut.
install() {
    local tree="$DRACUT_TMPDIR/finalstage-tree"

    /usr/local/sbin/finalstage unpack --configured "$tree" || {
        derror "finalstage is not in this initramfs"
        return 1
    }
    # As --include does: what is in the initramfs by then is searched for libraries that it needs, and
    # the tree brings its own.
    include_src+=("$tree")
    include_target+=(/usr/lib/finalstage-tree)
    # eu-strip, if told to be aggressive, takes the stage's own archive for debugging symbols.
    aggressive_strip=no
    # After all that others leave in /run/initramfs for the real root.
    inst_hook cleanup 99 "$moddir/stage.sh"
}
