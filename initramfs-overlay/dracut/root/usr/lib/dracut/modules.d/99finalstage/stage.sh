#!/bin/sh
# Sourced by dracut before it switches the root. Where it fails, shutdown is as without finalstage.
/usr/lib/finalstage-tree/shutdown --stage /run/initramfs || warn "finalstage is not staged"
