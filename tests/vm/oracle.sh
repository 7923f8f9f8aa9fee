#!/bin/busybox sh
# Closes by heart what the harness builds, with the tools of the field: what a clean close looks like.
# It is exec'd as PID 1 like finalstage, on the direct path or, below /oldroot, on the return path.
verb=$1
export PATH=/sbin:/bin DM_DISABLE_UDEV=1
if [ ! -d /oldroot/proc ] && [ "$2" != moved ]; then
    cd /run/initramfs || exit
    mkdir -p oldroot dev proc sys run
    for each in dev proc sys; do mount -o move "/$each" "$each"; done
    pivot_root . oldroot
    exec chroot . /bin/sh /shutdown "$verb" moved </dev/console >/dev/console 2>&1
fi
for folder in /proc/[0-9]*; do
    pid=${folder#/proc/}
    [ "$pid" != 1 ] && grep -q . "$folder/maps" && kill -9 "$pid"
done 2>/dev/null
tail -n +2 /proc/swaps | while read -r area _; do swapoff "$area" && echo "oracle: swapped off $area"; done
# Whatever is in use now may be free once something above it is gone: until nothing more goes.
gone=.
while [ -n "$gone" ]; do
    gone=$(
        tac /proc/mounts | while read -r _ place _; do
            case $place in /oldroot*) umount "$place" 2>/dev/null && echo "unmounted $place" ;; esac
        done
        dmsetup info -c --noheadings -o name,open | grep ':0$' | while IFS=: read -r name _; do
            dmsetup remove "$name" && echo "removed $name"
        done
        for array in /sys/block/md*/md; do
            array=${array%/md}
            [ -d "$array/md" ] && mdadm --stop --quiet "/dev/${array##*/}" 2>/dev/null && echo "stopped ${array##*/}"
        done
    )
    echo "oracle: ${gone:-nothing more will go}"
done
case $verb in
halt) halt -f ;;
reboot) reboot -f ;;
*) poweroff -f ;;
esac
