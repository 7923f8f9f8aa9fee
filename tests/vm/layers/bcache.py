"""bcache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import Common, changes_in_memory

REGISTER = "/sys/fs/bcache/register"
# The kernel takes no cache of fewer than 513 buckets.
MAKE = "/usr/sbin/make-bcache --bucket 64k"


@dataclass(frozen=True)
class Bcache(Common):
    """A bcache device in writeback mode: all that is written to it stays in the cache, dirty.

    Its name is what the kernel gives it, bcache0 to the first. `volume` is the size of a volume
    that lies in the cache set alone, as the next bcache device; empty if there is none.
    """

    name: str
    backing: str
    cache: str
    volume: str = ""

    modules: ClassVar[tuple[str, ...]] = ("bcache",)
    programs: ClassVar[tuple[str, ...]] = ("usr/sbin/make-bcache", "usr/sbin/bcache-super-show")
    clean: ClassVar[Mapping[str, str]] = {
        "sums": "2",
        "mode": "[writeback]",
        "state": "[dirty]",
        "attached": "dirty",
        "opens": "yes",
    }

    @property
    def title(self) -> str:
        return f"bcache {self.name}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.backing, self.cache)

    def build(self) -> str:
        lines = [
            f"{MAKE} --writeback -B /dev/{self.backing} -C /dev/{self.cache} >/dev/null",
            *(f"echo /dev/{each} >{REGISTER}" for each in self.below),
            f"until [ -e /sys/block/{self.name}/bcache/cache ]; do usleep 10000; done",
            f"cd /sys/block/{self.name}/bcache",
            "echo 0 >sequential_cutoff",
            "echo 0 >writeback_running",
        ]
        if self.volume:
            lines.append(f"echo {self.volume} >cache/flash_vol_create")
        return "\n".join(lines)

    def judge(self) -> str:
        """Ask both superblocks, and have the kernel use them as the next boot would: it writes to
        them at once, here into memory."""
        replayed = [f"{self.name}-{each.replace('/', '-')}" for each in self.below]
        backing, cache = (f"/dev/{each}" for each in self.below)
        value = f"sed -n 's/^dev.data.cache_{{}}.* //p' /tmp/{self.name}"
        lines = [
            f"/usr/sbin/bcache-super-show -f {cache} >/tmp/{self.name}-cache",
            f"/usr/sbin/bcache-super-show -f {backing} >/tmp/{self.name}",
            f"cat /tmp/{self.name} /tmp/{self.name}-cache",
            f"sums=$(cat /tmp/{self.name} /tmp/{self.name}-cache | grep -c '^sb.csum.*match')",
            f'fact {self.name} sums "$sums"',
            f'fact {self.name} mode "$({value.format("mode")})"',
            f'fact {self.name} state "$({value.format("state")})"',
            *map(changes_in_memory, self.below, replayed),
            *(f"echo /dev/mapper/{each} >{REGISTER}" for each in replayed),
            f"for i in $(seq 100); do [ -e /sys/block/{self.name}/bcache/cache ] && break;",
            "usleep 10000; done",
            f'fact {self.name} attached "$(cat /sys/block/{self.name}/bcache/state)"',
            f"opens {self.name} [ -b /dev/{self.name} ]",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class WaitingBcache(Common):
    """A backing device whose cache set is not there, so that the kernel waits for that."""

    backing: str
    cache: str

    modules: ClassVar[tuple[str, ...]] = ("bcache",)
    programs = Bcache.programs
    clean: ClassVar[Mapping[str, str]] = {"state": "[clean]"}

    @property
    def name(self) -> str:
        return f"waiting:{self.backing}"

    @property
    def title(self) -> str:
        return f"{self.backing} waits for its cache"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.backing, self.cache)

    def build(self) -> str:
        """Let them meet once: what never had a cache does not wait for one."""
        of_backing = f"/sys/class/block/$(basename $(readlink -f /dev/{self.backing}))/bcache"
        return f"""
            {MAKE} -B /dev/{self.backing} -C /dev/{self.cache} >/dev/null
            for each in {self.backing} {self.cache}; do echo /dev/$each >{REGISTER}; done
            until [ -e {of_backing}/cache ]; do usleep 10000; done
            set=$(readlink -f {of_backing}/cache)
            echo 1 >$set/stop
            while [ -e $set ] || [ -e {of_backing} ]; do usleep 10000; done
            until echo /dev/{self.backing} >{REGISTER}; do usleep 10000; done
            [ "$(cat {of_backing}/running)" = 0 ]"""

    def judge(self) -> str:
        return f"""
            /usr/sbin/bcache-super-show -f /dev/{self.backing} >/tmp/waiting
            fact {self.name} state "$(sed -n 's/^dev.data.cache_state.* //p' /tmp/waiting)" """
