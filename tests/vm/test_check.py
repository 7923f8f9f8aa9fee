"""A real machine with systemd that is ready, then damaged in one way after another: `finalstage
check` names the damage, and what it says to do about it makes the machine ready again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from tests.vm.inits import INSTALLED, TOOL
from tests.vm.living import Living, live
from tests.vm.part import in_turn
from tests.vm.stacks import with_init

READY = replace(with_init("systemd"), prepared=f"\n{INSTALLED}", brought=(TOOL,))
TREE = "/run/initramfs"
LOOK_AFTER = "/usr/lib/finalstage/look-after"
ON_PATH = "export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Damage:
    """Shell text that does it, and the findings that name it, with words of each."""

    does: str
    named: tuple[tuple[str, str], ...]


STAGE = "finalstage stage"

# Several at once where one does not hide another: each call takes seconds.
DAMAGES = (
    Damage(
        f"truncate -s 100000 {TREE}/usr/lib/finalstage/stage; echo : >>{LOOK_AFTER};"
        "echo 'width = 8' >/etc/finalstage.toml; systemctl disable finalstage.service;"
        f"mount -o remount,bind,noexec {TREE}",
        (
            ("tree", "is mounted noexec"),
            ("tree", "is not what this program stages: usr/lib/finalstage/stage"),
            ("current", "etc/finalstage.conf"),
            ("installed", f"{LOOK_AFTER} is not as it was installed"),
            ("unit", "finalstage.service is disabled"),
        ),
    ),
    Damage(
        f"{STAGE} --stand-in; umount {TREE}; mount -t tmpfs theirs {TREE}",
        (
            ("tree", "is not finalstage's: tmpfs theirs"),
            ("caller", "the launcher of an older tree stands in"),
        ),
    ),
)


def test_each_damage_is_named_and_its_remedy_mends_it() -> None:
    live(READY, damage_and_mend)


async def damage_and_mend(living: Living) -> None:
    """Try all of it on one machine, which is ready but for the first damage."""
    for damage in in_turn(DAMAGES):
        await living.run(f"{ON_PATH}; {damage.does}")
        found, status = await checked(living)
        assert status == 1 and not found["ready"], damage
        wrong = [each for each in found["findings"] if each["verdict"] == "problem"]
        assert [each["name"] for each in wrong] == [name for name, _ in damage.named], wrong
        for each, (_, words) in zip(wrong, damage.named, strict=True):
            assert words in each["found"]
        remedies = dict.fromkeys(each["remedy"] for each in wrong)
        await living.run(f"{ON_PATH}; {'; '.join(remedies)}")
    found, status = await checked(living)
    assert status == 0 and found["ready"], found


async def checked(living: Living) -> tuple[Any, int]:
    """Check the machine; return what is said, and the status."""
    answer = await living.call("check", "--json")
    return json.loads(answer.text), answer.status
