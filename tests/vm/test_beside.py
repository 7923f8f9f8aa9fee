"""`finalstage close` beside a living system: what LVM, systemd, udev and mdadm see of it.

Beside systemd and udev everything is built by the field's own tools, and taken down by them once:
what is then in /dev and /run is what finalstage has to leave behind.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tests.vm import stacks, warehouse
from tests.vm.guest import SUITE
from tests.vm.layers import Modules
from tests.vm.living import Answer, Living, live
from tests.vm.states import INITRAMFS

BUILT = """
insmod /run/loop.ko
install -m 755 /run/array-tool /sbin/mdadm
install -m 644 /run/6?-md-raid-*.rules /lib/udev/rules.d/
mkdir /run/disks; truncate -s 40M /run/disks/0; truncate -s 16M /run/disks/1 /run/disks/2
head -c 64 /dev/urandom >/run/disks/key
for each in 0 1 2; do losetup /dev/loop$each /run/disks/$each; done
echo 'data /dev/loop0 /run/disks/key plain,cipher=aes-xts-plain64,size=512,noauto' >/etc/crypttab
cat >>/etc/fstab <<'END'
/dev/two/srv /srv ext4 nofail 0 0
/dev/two/spool /spo\\040ol ext4 nofail,x-systemd.automount 0 0
END
cat >/etc/systemd/system/needy.service <<'END'
[Unit]
RequiresMountsFor=/srv
[Service]
ExecStart=/bin/sleep infinity
Restart=always
END
systemctl daemon-reload
systemctl start systemd-cryptsetup@data.service
pvcreate -qq /dev/mapper/data; vgcreate -qq two /dev/mapper/data
for each in srv spool; do lvcreate -qq -y -L 12M -n $each two; mke2fs -q /dev/two/$each; done
mdadm --create /dev/md/array --quiet --run --level=1 --metadata=1.2 --raid-devices=2 /dev/loop[12]
udevadm settle"""
OPENED = r"""
systemctl start srv.mount 'spo\x20ol.automount' needy.service
ls '/spo ol' >/dev/null
mountpoint -q /srv; mountpoint -q '/spo ol'; [ -b /dev/md/array ]"""
BY_ITS_TOOLS = r"""
systemctl stop needy.service 'spo\x20ol.automount' srv.mount
vgchange -qq -an two
systemctl stop systemd-cryptsetup@data.service
mdadm --stop --quiet /dev/md/array
udevadm settle"""
AGAIN = """
systemctl start systemd-cryptsetup@data.service
mdadm --assemble --quiet /dev/md/array /dev/loop1 /dev/loop2
udevadm settle
until [ -e /dev/two/spool ] && [ -e /dev/two/srv ]; do :; done
systemctl reset-failed"""
# All names of block devices, what udev and the tools know of them, and what systemd complains of.
SEEN = r"""
find /dev '(' -type b -o -type l ')' -printf '%p %l\n' | sort
ls -d /dev/two /dev/md 2>/dev/null || :
ls /run/udev/data | grep ^b
find /run/udev/links /run/udev/tags -name '[bc]*:*' | sort
find /run/lvm /run/lock/lvm /run/cryptsetup /run/mdadm ! -type d ! -name hints ! -path '*/pvs_*'
cat /run/mdadm/map
lvs --noheadings -o lv_full_name,lv_attr; vgs --noheadings; pvs --noheadings; dmsetup ls
systemctl list-units --no-legend --failed
systemctl is-active srv.mount 'spo\x20ol.mount' systemd-cryptsetup@data.service || :"""
SHARED = r"""
dd if=/dev/mapper/data of=/run/disks/kept bs=1M count=1 status=none
vgcfgbackup -qq -f /run/disks/text two
sed -i 's/^\textent_size/\tlock_type = "sanlock"\n\tlock_args = "1.0.0:lvmlock"\n&/' /run/disks/text
vgcfgrestore -qq -y --force -f /run/disks/text two"""
ALONE_AGAIN = "dd if=/run/disks/kept of=/dev/mapper/data bs=1M status=none; udevadm settle"
# As close says, udev assembles the array again, and the command that it names keeps it from that.
RULES_MASKED = """
appear() { udevadm trigger --action=add /dev/loop1 /dev/loop2; udevadm settle; }
appear; [ -b /dev/md/array ]
mdadm --stop --quiet /dev/md/array
mkdir -p /run/udev/rules.d && ln -s /dev/null /run/udev/rules.d/64-md-raid-assembly.rules
udevadm control --reload
appear; [ ! -e /dev/md/array ]
rm /run/udev/rules.d/64-md-raid-assembly.rules
systemctl mask --quiet --runtime srv.mount
mounted=yes; systemctl start srv.mount 2>/dev/null || mounted=no; [ $mounted = no ]
systemctl unmask --quiet --runtime srv.mount"""
LOCK = "/run/lock/lvm/V_two"


@dataclass(frozen=True)
class Mdadm(Modules):
    """mdadm, with its rules for udev."""

    programs: ClassVar[tuple[str, ...]] = (
        "sbin/mdadm",
        "lib/udev/rules.d/63-md-raid-arrays.rules",
        "lib/udev/rules.d/64-md-raid-assembly.rules",
    )


def blobs() -> dict[str, bytes]:
    """What that machine needs besides: mdadm, and a module."""
    kit = warehouse.kit((Mdadm(()),), SUITE)
    assert kit
    rules = [kit / name for name in Mdadm.programs if name.endswith(".rules")]
    (loop,) = warehouse.kernel().glob("lib/modules/*/kernel/drivers/block/loop.ko")
    files = {"array-tool": kit / Mdadm.programs[0], "loop.ko": loop}
    return {name: file.read_bytes() for name, file in (files | {x.name: x for x in rules}).items()}


def test_beside_systemd_and_udev() -> None:
    async def act(living: Living) -> None:
        await living.run(f"{BUILT}\n{OPENED}")
        before = await living.run(SEEN)
        await living.run(BY_ITS_TOOLS)
        control = await living.run(SEEN)
        assert "two/srv" in before and "two/srv" not in control
        await living.run(f"{AGAIN}\n{OPENED}")

        names_what_would_come_back(await waits_for_a_lock(living))
        await refuses_what_is_shared(living)
        await living.run(r"systemctl stop needy.service 'spo\x20ol.automount'")
        await holds_the_lock(living)

        answer = await living.call("close", "data", "/dev/md/array", "--yes")
        assert answer.status == 0, answer.text
        stop = "systemctl stop systemd-cryptsetup@data.service"
        assert f"takes crypt data for open; `{stop}`" in answer.text
        await living.run(stop)
        seen = await living.run(SEEN)
        assert sorted({*seen.splitlines()} ^ {*control.splitlines()}) == []
        await living.run(RULES_MASKED)
        # Nothing is left that would keep it from being opened again, by the same rules.
        await living.run(f"{AGAIN}\n{OPENED}")

    live(stacks.with_init("systemd"), act, blobs=blobs())


def names_what_would_come_back(answer: Answer) -> None:
    """Units, a service, an automount, and udev's rules for what stays."""
    for words in (
        "srv.mount (/etc/fstab), started when another unit needs it; `systemctl mask --runtime",
        "needy.service, which is restarted when it ends, needs ext4 /srv; `systemctl stop needy.s",
        r"is mounted again by spo\x20ol.automount when somebody looks into it; `systemctl stop 'sp",
        "raid1 md127 is assembled again when udev sees loop loop1 and loop loop2 appear anew",
    ):
        assert words in answer.text, answer.text


async def waits_for_a_lock(living: Living) -> Answer:
    """Somebody works on the volume group, and does not end."""
    await living.run(f"flock {LOCK} sleep 12345 & until ! flock -n {LOCK} true; do :; done")
    answer = await living.call("close", "data", "/dev/md/array", "--yes")
    assert answer.status == 1, answer.text
    assert "volume group two is locked by flock[" in answer.text
    await living.run("mountpoint -q /srv; pkill -x flock; pkill -f 'sleep 12345'")
    return answer


async def refuses_what_is_shared(living: Living) -> None:
    """Somebody has made the volume group one of a cluster."""
    await living.run(SHARED)
    answer = await living.call("close", "data", "--yes")
    assert answer.status == 1, answer.text
    assert "volume group two is shared with other machines by lvmlockd (sanlock)" in answer.text
    await living.run(f"mountpoint -q /srv; {ALONE_AGAIN}")


async def holds_the_lock(living: Living) -> None:
    """While a call of it hangs, who asks LVM waits; and no longer than finalstage does."""
    await living.run(f"""
        export FINALSTAGE_TEST=1 FINALSTAGE_FAULT=hang@dm_remove
        /run/finalstage close two/spool --yes --timeout 12s >/run/said 2>&1 &
        closing=$!
        until [ -e {LOCK} ] && ! flock -n {LOCK} true; do :; done
        vgs two >/dev/null &
        asking=$!
        until grep -q -e '-> FLOCK' /proc/locks; do :; done
        closed=yes; wait $closing || closed=no; [ $closed = no ]
        wait $asking
        [ -b /dev/two/spool ]""")


WITHOUT_UDEV = replace(stacks.LVM, name="LVM, without udev", root=INITRAMFS)
VOLUMES = "find /dev -name '*root*' -o -name vg | sort"


def test_without_udev() -> None:
    async def act(living: Living) -> None:
        nodes = await living.run(VOLUMES)
        assert nodes.split() == ["/dev/mapper/vg-root", "/dev/vg", "/dev/vg/root"]
        answer = await living.call("close", "vg/root", "--yes")
        assert answer.status == 0, answer.text
        assert await living.run(VOLUMES) == ""
        await living.run("vgchange -qq -ay vg; [ -b /dev/vg/root ]")
        assert await living.run(VOLUMES) == nodes

    live(WITHOUT_UDEV, act)
