"""What the real kernel and the simulated one must answer alike, call by call.

A scenario is built in a guest by shell text, and then goes on line by line: a call, and behind two
spaces or more what came of it: ``ok``, the name of an errno, or ``HANG``, which means that it did
not come back in time. The calls are those of `finalstage.kernel.Kernel`, and those of a process
that holds something (tests.inside.act). A device goes by the name that scan gives it, a file system
by its mount point. A new kind brings its scenarios here.
"""

from __future__ import annotations

from finalstage.value import Value

PRELUDE = """
set -e
linear() { dmsetup create $1 --table "0 $(blockdev --getsz $2) linear $2 0"; }
crypt() {
    key=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef
    dmsetup create $1 --table "0 $(blockdev --getsz $2) crypt aes-xts-plain64 $key 0 $2 0"
}
ext4() {
    mkfs.ext4 -q -E lazy_itable_init=0,nodiscard $1
    mkdir -p $2
    mount -t ext4 $1 $2
}
mirror() {
    mdadm --create $1 --quiet --run --level=1 --metadata=1.2 --bitmap=none --assume-clean \
        --raid-devices=2 $2 $3
}
wiped() { dd if=/dev/zero of=$1 bs=64k count=17 conv=fsync status=none; }
contained() {
    for each in /dev/vdf /dev/vdg; do wiped $each; done
    export IMSM_NO_PLATFORM=1 IMSM_DEVNAME_AS_SERIAL=1
    mdadm --create $1 --quiet --run --metadata=imsm --raid-devices=2 /dev/vdf /dev/vdg
    mdadm --create $2 --quiet --run --level=1 --size=16M --assume-clean --raid-devices=2 $1
    until [ -s /run/mdadm/${1#/dev/}.pid ]; do usleep 10000; done
}
bcached() {
    for each in /dev/vdf /dev/vdg; do wiped $each; done
    /usr/sbin/make-bcache --bucket 64k --writeback -B /dev/vdf -C /dev/vdg >/dev/null
    for each in /dev/vdf /dev/vdg; do echo $each >/sys/fs/bcache/register; done
    until [ -e /sys/block/bcache0/bcache/cache ]; do usleep 10000; done
}
appears() {
    until grep -qs '[1-9]' /sys/block/$1/size; do usleep 10000; done
}
served() {
    /run/trouble serve /dev/$1 $2 >/run/server-$(cat /sys/block/$1/dev)
    appears $1
}
partition() {
    printf '\\0\\0\\0\\0\\203\\0\\0\\0\\0\\010\\0\\0\\0\\060\\0\\0' |
        dd of=$1 bs=1 seek=446 conv=notrunc status=none
    printf '\\125\\252' | dd of=$1 bs=1 seek=510 conv=notrunc status=none
}
"""
"""Shell functions for all. `contained` makes a container, and an array in it with a monitor, and
`bcached` a bcache device, both on the two large disks. `served` connects a network block device to
a server for a disk. `partition` makes a table with one partition, 6 MiB from 1 MiB on."""


class Scenario(Value):
    """A scenario: `build` is shell text, `script` the calls and what must come of them."""

    name: str
    build: str
    script: str

    @property
    def lines(self) -> list[tuple[str, str]]:
        """The calls, each with its outcome."""
        pairs = (line.strip().partition("  ") for line in self.script.strip().split("\n"))
        return [(call, outcome.strip()) for call, _, outcome in pairs]


SCENARIOS = (
    Scenario(
        "a mount with an open file",
        "ext4 /dev/vdc /m0",
        """
        open f /m0/file write       ok
        umount /m0                  EBUSY
        umount /m0 force            EBUSY
        remount /m0 readonly        EBUSY
        close f                     ok
        open f /m0/file             ok
        remount /m0 readonly        ok
        remount /m0 readonly        ok
        umount /m0                  EBUSY
        close f                     ok
        umount /m0                  ok
        umount /m0                  EINVAL
        remount /m0 readonly        EINVAL
        """,
    ),
    Scenario(
        "a mount on a mount, and a working directory",
        "ext4 /dev/vdc /m1; mkdir /m1/below; ext4 /dev/vdd /m1/below",
        """
        umount /m1                  EBUSY
        enter /m1/below             ok
        umount /m1/below            EBUSY
        enter /                     ok
        umount /m1/below            ok
        enter /m1                   ok
        umount /m1                  EBUSY
        enter /                     ok
        umount /m1                  ok
        """,
    ),
    Scenario(
        "what is detached still holds its device",
        "linear x2 /dev/vdc; ext4 /dev/mapper/x2 /m2; mkdir /m2/below; mount -t tmpfs t /m2/below",
        """
        open f /m2/file write       ok
        umount /m2 detach           ok
        umount /m2                  EINVAL
        dm_remove x2                EBUSY
        close f                     ok
        dm_remove x2                ok
        """,
    ),
    Scenario(
        "a file system that is frozen",
        "linear x3 /dev/vde; ext4 /dev/mapper/x3 /m3",
        """
        thaw /m3                    EINVAL
        freeze /m3                  ok
        freeze /m3                  EBUSY
        syncfs /m3                  ok
        remount /m3 readonly        EBUSY
        dm_suspend x3 lockfs flush  EBUSY
        thaw /m3                    ok
        thaw /m3                    EINVAL
        freeze /m3                  ok
        umount /m3                  ok
        dm_remove x3                EBUSY
        """,
    ),
    Scenario(
        "removing dm devices",
        "linear x4 /dev/vdc; linear y4 /dev/mapper/x4; ext4 /dev/mapper/y4 /m4",
        """
        dm_remove x4                EBUSY
        dm_remove y4                EBUSY
        umount /m4                  ok
        open d y4                   ok
        dm_remove y4                EBUSY
        close d                     ok
        dm_remove x4                EBUSY
        dm_remove y4                ok
        dm_remove y4                ENXIO
        dm_status y4                ENXIO
        dm_suspend y4               ENXIO
        dm_resume y4                ENXIO
        dm_clear y4                 ENXIO
        dm_load_error y4 100        ENXIO
        dm_message y4 0 key wipe    ENXIO
        flush y4                    ENXIO
        read /sys/dev/block/@y4/size    ENOENT
        list /sys/dev/block/@y4     ENOENT
        dm_suspend x4               ok
        dm_remove x4                ok
        """,
    ),
    Scenario(
        "suspending and resuming",
        "linear x5 /dev/vdc; ext4 /dev/mapper/x5 /m5",
        """
        dm_resume x5                ok
        dm_suspend x5 lockfs flush  ok
        dm_suspend x5 lockfs flush  ok
        dm_suspend x5               ok
        dm_status x5                ok suspended
        dm_remove x5                EBUSY
        dm_resume x5                ok
        dm_status x5                ok
        umount /m5                  ok
        dm_suspend x5               ok
        flush x5                    HANG
        dm_remove x5                EBUSY
        dm_resume x5                ok
        hear                        flush x5: ok
        dm_remove x5                ok
        """,
    ),
    Scenario(
        "a device without a table",
        "for each in x6 y6; do dmsetup create --notable $each; linear='0 8 linear /dev/vdc 0';"
        ' dmsetup load $each --table "$linear"; dmsetup clear $each; done',
        """
        dm_status x6                ok
        dm_suspend x6               ok
        dm_status x6                ok suspended
        dm_resume x6                EINVAL
        dm_message x6 0 key wipe    EINVAL
        dm_clear x6                 ok
        dm_remove x6                ok
        flush y6                    EIO
        dm_load_error y6 8          ok
        dm_resume y6                ok
        dm_status y6                ok
        dm_remove y6                ok
        """,
    ),
    Scenario(
        "wiping a key",
        "crypt x7 /dev/vdc; linear y7 /dev/mapper/x7",
        """
        dm_message x7 0 key wipe    EINVAL
        dm_message x7 0 nonsense    EINVAL
        dm_suspend x7               ok
        dm_message x7 99999999 key wipe     EINVAL
        dm_message x7 8 key wipe    ok
        dm_message x7 0 key wipe    ok
        dm_resume x7                EAGAIN
        dm_status x7                ok suspended
        dm_remove x7                EBUSY
        dm_message y7 0 key wipe    EINVAL
        dm_load_error x7 32768      ok
        dm_status x7                ok suspended inactive
        dm_resume x7                ok
        dm_status x7                ok
        dm_message x7 0 key wipe    EINVAL
        dm_remove y7                ok
        dm_remove x7                ok
        """,
    ),
    Scenario(
        "tables that are loaded and dropped",
        "linear x8 /dev/vdc",
        """
        dm_load_error x8 32768      ok
        dm_status x8                ok inactive
        dm_load_error x8 32768      ok
        dm_clear x8                 ok
        dm_status x8                ok
        dm_clear x8                 ok
        dm_load_error x8 0          EINVAL
        dm_load_error x8 32768      ok
        dm_remove x8                ok
        """,
    ),
    Scenario(
        "an error table in place of another",
        "linear x9 /dev/vdc; ext4 /dev/mapper/x9 /m9",
        """
        open f /m9/file write       ok
        write f                     ok
        dm_load_error x9 32768      ok
        dm_resume x9                ok
        syncfs /m9                  EIO
        close f                     ok
        umount /m9                  ok
        flush x9                    EIO
        dm_remove x9                ok
        """,
    ),
    Scenario(
        "a device that is to go when it is closed",
        "linear x10 /dev/vdc; ext4 /dev/mapper/x10 /m10",
        """
        dm_remove x10               EBUSY
        defer x10                   ok
        dm_remove x10               EBUSY
        umount /m10                 ok
        wait                        ok
        dm_status x10               ENXIO
        dm_remove x10               ENXIO
        """,
    ),
    Scenario(
        "what waits for a suspended device",
        "linear x11 /dev/vdc; linear y11 /dev/mapper/x11; ext4 /dev/mapper/y11 /m11",
        """
        open f /m11/file write      ok
        write f                     ok
        dm_suspend x11              ok
        syncfs /m11                 HANG
        dm_suspend y11              HANG
        dm_status y11               ok
        dm_resume x11               ok
        hear                        syncfs /m11: HANG, dm_suspend y11: ok
        dm_status y11               ok suspended
        dm_resume y11               ok
        hear                        syncfs /m11: ok
        close f                     ok
        umount /m11                 ok
        dm_remove y11               ok
        dm_remove x11               ok
        """,
    ),
    Scenario(
        "unmounting on a suspended device",
        "linear x12 /dev/vdc; ext4 /dev/mapper/x12 /m12",
        """
        open f /m12/file write      ok
        write f                     ok
        close f                     ok
        dm_suspend x12              ok
        umount /m12                 HANG
        umount /m12                 EINVAL
        dm_remove x12               EBUSY
        dm_resume x12               ok
        hear                        umount /m12: ok
        dm_remove x12               ok
        """,
    ),
    Scenario(
        "sync with a suspended device",
        "linear x13 /dev/vdc; ext4 /dev/mapper/x13 /m13",
        """
        open f /m13/file write      ok
        write f                     ok
        dm_suspend x13              ok
        sync                        HANG
        dm_load_error x13 32768     ok
        dm_resume x13               ok
        hear                        sync: ok
        close f                     ok
        umount /m13                 ok
        dm_remove x13               ok
        """,
    ),
    Scenario(
        "a mirror",
        "mirror /dev/md14 /dev/vdc /dev/vdd; linear x14 /dev/md14; ext4 /dev/mapper/x14 /m14",
        """
        stop_array md14             EBUSY
        umount /m14                 ok
        stop_array md14             EBUSY
        dm_remove x14               ok
        open d md14                 ok
        stop_array md14             EBUSY
        close d                     ok
        write /sys/dev/block/@md14/md/dev-vdc/state faulty     ok
        write /sys/dev/block/@md14/md/dev-vdd/state faulty     EBUSY
        flush md14                  EIO
        stop_array md14             ok
        wait                        ok
        flush md14                  EIO
        wait                        ok
        stop_array md14             ok
        """,
    ),
    Scenario(
        "an array of an array, with partitions",
        "mirror /dev/md15 /dev/vdc /dev/vdd; partition /dev/md15; blockdev --rereadpt /dev/md15;"
        "mdadm --create /dev/md16 --quiet --run --force --level=1 --metadata=1.2 --bitmap=none"
        " --raid-devices=1 /dev/md15p1; ext4 /dev/md16 /m15",
        """
        stop_array md15             EBUSY
        stop_array md16             EBUSY
        umount /m15                 ok
        stop_array md15             EBUSY
        stop_array md16             ok
        flush md15p1                ok
        stop_array md15             ok
        flush md15p1                ENXIO
        """,
    ),
    Scenario(
        "a loop device, and what its file lies on",
        "ext4 /dev/vdc /m17; truncate -s 8M /m17/file; losetup /dev/loop1 /m17/file;"
        "ext4 /dev/loop1 /m18",
        """
        umount /m17                 EBUSY
        detach_loop loop1           ok
        umount /m17                 EBUSY
        flush loop1                 ok
        umount /m18                 ok
        detach_loop loop1           ENXIO
        umount /m17                 ok
        detach_loop vdc            ENOTTY
        """,
    ),
    Scenario(
        "a loop device with partitions",
        "truncate -s 8M /run/l19; partition /run/l19; losetup /dev/loop2 /run/l19;"
        "blockdev --rereadpt /dev/loop2; ext4 /dev/loop2p1 /m19",
        """
        open d loop2                ok
        close d                     ok
        detach_loop loop2           ok
        flush loop2p1               ok
        umount /m19                 ok
        flush loop2p1               ENXIO
        detach_loop loop2           ENXIO
        """,
    ),
    Scenario(
        "a loop device that somebody has open",
        "truncate -s 8M /run/l20; losetup /dev/loop3 /run/l20",
        """
        open d loop3                ok
        detach_loop loop3           ok
        close d                     ok
        detach_loop loop3           ENXIO
        """,
    ),
    Scenario(
        "swap",
        "linear x21 /dev/vdc; mkswap /dev/mapper/x21 >/dev/null; swapon /dev/mapper/x21;"
        "ext4 /dev/vdd /m21; dd if=/dev/zero of=/m21/swap bs=1M count=4 status=none;"
        "mkswap /m21/swap >/dev/null; swapon /m21/swap",
        """
        dm_remove x21               EBUSY
        swapoff /dev/mapper/x21     ok
        swapoff /dev/mapper/x21     EINVAL
        dm_remove x21               ok
        swapoff /dev/vdd           EINVAL
        umount /m21                 EBUSY
        swapoff /m21/swap           ok
        umount /m21                 ok
        """,
    ),
    Scenario(
        "calls to what is something else",
        "linear x22 /dev/vdc",
        """
        stop_array x22              ENOTTY
        detach_loop x22             ENOTTY
        clear_nbd x22               ENOTTY
        dm_remove vdc              ENXIO
        dm_status vdc              ENXIO
        stop_array vdc             EBUSY
        flush vdc                  ok
        dm_remove x22               ok
        stop_array vdc             ENOTTY
        """,
    ),
    Scenario(
        "zram",
        "echo 8M >/sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null; swapon /dev/zram0",
        """
        write /sys/dev/block/@zram0/reset 1     EBUSY
        swapoff /dev/zram0          ok
        open d zram0                ok
        write /sys/dev/block/@zram0/reset 1     EBUSY
        close d                     ok
        write /sys/dev/block/@zram0/reset 1     ok
        read /sys/dev/block/@zram0/size         ok 0
        """,
    ),
    Scenario(
        "an overlay, whose file systems it keeps alive",
        "linear x24 /dev/vdc; ext4 /dev/mapper/x24 /m24; linear y24 /dev/vdd;"
        "ext4 /dev/mapper/y24 /m25; mkdir /m24/l /m25/u /m25/w /m26;"
        "mount -t overlay -o lowerdir=/m24/l,upperdir=/m25/u,workdir=/m25/w overlay /m26",
        """
        umount /m24                 ok
        dm_remove x24               EBUSY
        open f /m26/file write      ok
        umount /m26                 EBUSY
        umount /m25                 ok
        dm_remove y24               EBUSY
        close f                     ok
        umount /m26                 ok
        dm_remove x24               ok
        dm_remove y24               ok
        """,
    ),
    Scenario(
        "btrfs on two devices",
        "linear x27 /dev/vdf; linear y27 /dev/vdg; mkdir /m27 /m28;"
        "mkfs.btrfs -q -f -d single -m raid1 /dev/mapper/x27 /dev/mapper/y27;"
        "mount -t btrfs -o device=/dev/mapper/x27,device=/dev/mapper/y27 /dev/mapper/x27 /m27;"
        "mount -o bind /m27 /m28",
        """
        dm_remove x27               EBUSY
        dm_remove y27               EBUSY
        umount /m27                 ok
        dm_remove x27               EBUSY
        dm_remove y27               EBUSY
        umount /m28                 ok
        dm_remove y27               ok
        dm_remove x27               ok
        """,
    ),
    Scenario(
        "a pool and its thin volumes",
        "wiped /dev/vdc; dmsetup create x29 --table"
        ' "0 32768 thin-pool /dev/vdc /dev/vdd 128 0 1 skip_block_zeroing";'
        'for each in 0 1; do dmsetup message x29 0 "create_thin $each"; done;'
        "for each in 0 1; do dmsetup create y29-$each --table"
        ' "0 16384 thin /dev/mapper/x29 $each"; done;'
        "ext4 /dev/mapper/y29-0 /m29",
        """
        stop_array vdc              EBUSY
        dm_remove x29               EBUSY
        dm_remove y29-0             EBUSY
        open f /m29/file write      ok
        write f                     ok
        dm_message x29 0 nonsense   EINVAL
        dm_suspend x29              ok
        dm_status x29               ok suspended
        dm_status y29-0             ok
        dm_remove x29               EBUSY
        syncfs /m29                 HANG
        dm_suspend y29-1            HANG
        dm_resume x29               ok
        hear                        syncfs /m29: ok, dm_suspend y29-1: ok
        dm_status y29-1             ok suspended
        write f                     ok
        dm_suspend x29              ok
        dm_remove y29-1             ok
        dm_load_error y29-0 16384   ok
        dm_resume y29-0             HANG
        dm_resume x29               ok
        hear                        dm_resume y29-0: ok
        syncfs /m29                 EIO
        dm_remove x29               ok
        close f                     ok
        umount /m29                 ok
        dm_remove y29-0             ok
        """,
    ),
    Scenario(
        "a multipath without a path",
        'dmsetup create x30 --table "0 $(blockdev --getsz /dev/vdc) multipath'
        ' 1 queue_if_no_path 0 1 1 round-robin 0 1 1 /dev/vdc 1"; ext4 /dev/mapper/x30 /m30',
        """
        stop_array vdc                      EBUSY
        dm_message x30 0 nonsense           EINVAL
        open f /m30/file write              ok
        write f                             ok
        dm_message x30 0 fail_path @vdc     ok
        syncfs /m30                         HANG
        dm_remove x30                       EBUSY
        dm_suspend x30 lockfs flush         EIO
        hear                                syncfs /m30: EIO
        flush x30                           EIO
        dm_suspend x30                      ok
        dm_message x30 0 fail_if_no_path    EBUSY
        dm_resume x30                       ok
        flush x30                           HANG
        dm_message x30 0 fail_if_no_path    ok
        hear                                flush x30: EIO
        dm_suspend x30 flush                ok
        dm_resume x30                       ok
        flush x30                           EIO
        close f                             ok
        umount /m30                         ok
        dm_remove x30                       ok
        """,
    ),
    Scenario(
        "an origin and its snapshot",
        "wiped /dev/vdd; linear x31 /dev/vdc; linear y31 /dev/vdd; "
        'dmsetup create s31 --table "0 32768 snapshot /dev/mapper/x31 /dev/mapper/y31 P 8";'
        'dmsetup create o31 --table "0 32768 snapshot-origin /dev/mapper/x31";'
        "ext4 /dev/mapper/o31 /m31",
        """
        dm_remove o31               EBUSY
        dm_remove x31               EBUSY
        dm_remove y31               EBUSY
        dm_suspend s31              ok
        open f /m31/file write      ok
        write f                     ok
        syncfs /m31                 ok
        dm_resume s31               ok
        flush s31                   ok
        write f                     ok
        dm_suspend y31              ok
        syncfs /m31                 HANG
        dm_resume y31               ok
        hear                        syncfs /m31: ok
        close f                     ok
        umount /m31                 ok
        dm_remove x31               EBUSY
        dm_remove o31               ok
        dm_remove y31               EBUSY
        dm_remove x31               EBUSY
        dm_remove s31               ok
        dm_remove y31               ok
        dm_remove x31               ok
        """,
    ),
    Scenario(
        "a bcache device that is stopped, and then its cache set",
        "bcached; ext4 /dev/bcache0 /m32",
        """
        stop_array vdf              EBUSY
        stop_array vdg              EBUSY
        open f /m32/file write      ok
        write f                     ok
        write /sys/dev/block/@bcache0/bcache/stop 1     ok
        flush bcache0               ENXIO
        syncfs /m32                 ok
        close f                     ok
        stop_array vdf              EBUSY
        umount /m32                 ok
        vanish /sys/dev/block/@bcache0                  ok
        wait                        ok
        flush bcache0               ENXIO
        stop_array vdf              ENOTTY
        stop_array vdg              EBUSY
        write /sys/dev/block/@vdg/bcache/set/stop 1     ok
        vanish /sys/dev/block/@vdg/bcache               ok
        wait                        ok
        stop_array vdg              ENOTTY
        """,
    ),
    Scenario(
        "a cache set that is stopped while a bcache device is in use",
        "bcached; ext4 /dev/bcache0 /m33",
        """
        write /sys/dev/block/@vdg/bcache/set/stop 1     ok
        wait                        ok
        flush bcache0               ENXIO
        open f /m33/file write      ok
        write f                     ok
        syncfs /m33                 ok
        close f                     ok
        stop_array vdf              EBUSY
        stop_array vdg              EBUSY
        umount /m33                 ok
        vanish /sys/dev/block/@bcache0                  ok
        vanish /sys/dev/block/@vdg/bcache               ok
        wait                        ok
        stop_array vdf              ENOTTY
        stop_array vdg              ENOTTY
        """,
    ),
    Scenario(
        "a backing device that waits for its cache set",
        "bcached; set=$(readlink -f /sys/block/vdg/bcache/set); echo 1 >$set/stop;"
        "while [ -e /sys/block/vdf/bcache ] || [ -e $set ]; do usleep 10000; done;"
        "until echo /dev/vdf >/sys/fs/bcache/register; do usleep 10000; done",
        """
        stop_array vdf              EBUSY
        write /sys/dev/block/@vdf/bcache/stop 1     ok
        vanish /sys/dev/block/@vdf/bcache               ok
        wait                        ok
        stop_array vdf              ENOTTY
        """,
    ),
    Scenario(
        "a container whose array is kept by a monitor",
        "contained /dev/md35 /dev/md36; ext4 /dev/md36 /m35",
        """
        stop_array md36             EBUSY
        flush md35                  EIO
        open f /m35/file write      ok
        write f                     ok
        write /sys/dev/block/@md36/md/array_state inactive      EBUSY
        syncfs /m35                 ok
        close f                     ok
        umount /m35                 ok
        flush md36                  ok
        read /sys/dev/block/@md36/md/array_state        ok active
        write /sys/dev/block/@md36/md/array_state clean         ok
        read /sys/dev/block/@md36/md/array_state        ok clean
        write /sys/dev/block/@md36/md/array_state inactive      ok
        wait                        ok
        stop_array md36             ok
        vanish /sys/dev/block/@md36                     ok
        stop_array vdf              EBUSY
        stop_array md35             ok
        stop_array vdf              ENOTTY
        """,
    ),
    Scenario(
        "an array in a container whose monitor has gone",
        "contained /dev/md37 /dev/md38; ext4 /dev/md38 /m37; sync;"
        "until echo clean >/sys/block/md38/md/array_state; do usleep 10000; done;"
        "kill -9 $(cat /run/mdadm/md37.pid)",
        """
        read /sys/dev/block/@md38/md/array_state        ok clean
        open f /m37/file write      ok
        write f                     ok
        syncfs /m37                 HANG
        read /sys/dev/block/@md38/md/array_state        ok write-pending
        write /sys/dev/block/@md38/md/array_state active        ok
        hear                        syncfs /m37: ok
        close f                     ok
        umount /m37                 ok
        flush md38                  ok
        write /sys/dev/block/@md38/md/array_state inactive      ok
        read /sys/dev/block/@md38/md/array_state        ok inactive
        flush md38                  EIO
        stop_array md38             ok
        stop_array md37             ok
        """,
    ),
    Scenario(
        "a container that is stopped before its array",
        "contained /dev/md39 /dev/md40",
        """
        stop_array md39             ok
        flush md40                  ok
        stop_array md40             ok
        stop_array vdf              ENOTTY
        """,
    ),
    Scenario(
        "a network block device",
        "served nbd0 /dev/vdc; ext4 /dev/nbd0 /m41",
        """
        flush nbd0 alone            EBUSY
        umount /m41                 ok
        flush nbd0 alone            ok
        clear_nbd nbd0 disconnect   ok
        wait                        ok
        read /sys/dev/block/@nbd0/size      ok 0
        flush nbd0                  EIO
        clear_nbd nbd0 disconnect   ok
        clear_nbd nbd0              ok
        """,
    ),
    Scenario(
        "a network block device whose server is silent",
        "served nbd0 /dev/vdc; ext4 /dev/nbd0 /m42",
        """
        open f /m42/file write      ok
        write f                     ok
        silence nbd0                ok
        syncfs /m42                 HANG
        clear_nbd nbd0              ok
        hear                        syncfs /m42: EIO
        flush nbd0                  EIO
        close f                     ok
        umount /m42                 ok
        clear_nbd nbd0              ok
        """,
    ),
    Scenario(
        "a SCSI disk that is deleted",
        "rmmod scsi_debug; modprobe scsi_debug; appears sda; ext4 /dev/sda /m43",
        """
        flush sda alone             EBUSY
        stop_array sda              EBUSY
        umount /m43                 ok
        flush sda alone             ok
        write /sys/dev/block/@sda/device/delete 1       ok
        flush sda                   ENXIO
        read /sys/dev/block/@sda/size                   ENOENT
        write /sys/dev/block/@sda/device/delete 1       ENOENT
        """,
    ),
    Scenario(
        "a SCSI disk that is deleted while it is in use",
        "rmmod scsi_debug; modprobe scsi_debug; appears sda; linear x44 /dev/sda;"
        "ext4 /dev/mapper/x44 /m44",
        """
        open f /m44/file write      ok
        write f                     ok
        write /sys/dev/block/@sda/device/delete 1       ok
        flush sda                   ENXIO
        read /sys/dev/block/@sda/size                   ENOENT
        syncfs /m44                 EIO
        flush x44                   EIO
        close f                     ok
        umount /m44                 ok
        dm_remove x44               ok
        """,
    ),
    Scenario(
        "a RAID5 that loses its members",
        "mdadm --create /dev/md45 --quiet --run --level=5 --metadata=1.2 --bitmap=none --size=8M"
        " --assume-clean --raid-devices=3 /dev/vdc /dev/vdd /dev/vdf; ext4 /dev/md45 /m45",
        """
        write /sys/dev/block/@md45/md/dev-vdc/state faulty      ok
        open f /m45/file write      ok
        write f                     ok
        syncfs /m45                 ok
        flush md45                  ok
        write f                     ok
        write /sys/dev/block/@md45/md/dev-vdd/state faulty      EBUSY
        syncfs /m45                 EIO
        flush md45                  EIO
        close f                     ok
        umount /m45                 ok
        stop_array md45             ok
        """,
    ),
    Scenario(
        "a pool whose metadata is on what is suspended",
        "wiped /dev/vdc; linear z46 /dev/vdc; dmsetup create x46 --table"
        ' "0 32768 thin-pool /dev/mapper/z46 /dev/vdd 128 0 1 skip_block_zeroing";'
        'dmsetup message x46 0 "create_thin 0";'
        'dmsetup create y46 --table "0 16384 thin /dev/mapper/x46 0"; ext4 /dev/mapper/y46 /m46',
        """
        dm_remove z46               EBUSY
        open f /m46/file write      ok
        write f                     ok
        dm_suspend z46              ok
        syncfs /m46                 HANG
        dm_status x46               HANG
        dm_status y46               HANG
        dm_resume z46               ok
        hear                        syncfs /m46: ok, dm_status x46: ok, dm_status y46: ok
        close f                     ok
        umount /m46                 ok
        dm_remove y46               ok
        dm_remove x46               ok
        dm_remove z46               ok
        """,
    ),
    Scenario(
        "era, which says nothing while it is suspended",
        'wiped /dev/vdc; dmsetup create x47 --table "0 32768 era /dev/vdc /dev/vdd 128"',
        """
        stop_array vdc              EBUSY
        stop_array vdd              EBUSY
        dm_status x47               ok
        dm_suspend x47              ok
        ask x47                     HANG
        dm_resume x47               ok
        dm_status x47               ok
        hear                        ask x47: ok
        dm_remove x47               ok
        stop_array vdd              ENOTTY
        """,
    ),
    Scenario(
        "a cache and a writecache, and what they stand on",
        "for each in c d; do wiped /dev/vd$each; done; for each in c d f g; do"
        " linear $each-48 /dev/vd$each; done; dmsetup create x48 --table"
        ' "0 32768 cache /dev/mapper/c-48 /dev/mapper/d-48 /dev/mapper/f-48 128 1 writeback smq 0";'
        "wiped /dev/mapper/g-48; dmsetup create y48 --table"
        ' "0 16384 writecache s /dev/mapper/x48 /dev/mapper/g-48 4096 0";'
        "ext4 /dev/mapper/y48 /m48",
        """
        dm_remove x48               EBUSY
        dm_remove g-48              EBUSY
        dm_remove c-48              EBUSY
        open f /m48/file write      ok
        write f                     ok
        dm_suspend g-48             ok
        syncfs /m48                 HANG
        dm_resume g-48              ok
        hear                        syncfs /m48: ok
        close f                     ok
        umount /m48                 ok
        dm_suspend f-48             ok
        flush y48                   HANG
        dm_resume f-48              ok
        hear                        flush y48: ok
        dm_suspend y48              ok
        dm_remove y48               ok
        dm_remove g-48              ok
        dm_remove d-48              EBUSY
        dm_remove f-48              EBUSY
        dm_remove x48               ok
        dm_remove c-48              ok
        dm_remove d-48              ok
        dm_remove f-48              ok
        """,
    ),
)
