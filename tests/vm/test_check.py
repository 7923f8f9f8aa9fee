"""A real machine with systemd that is ready, then damaged in one way after another: `finalstage
check` names the damage, and what it says to do about it makes the machine ready again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from tests.vm.inits import INSTALLED, TOOL
from tests.vm.living import Living, live
from tests.vm.stacks import with_init

READY = replace(with_init("systemd"), prepared=f"\n{INSTALLED}", brought=(TOOL,))
TREE = "/run/initramfs"
LOOK_AFTER = "/usr/lib/finalstage/look-after"
ON_PATH = "export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Damage:
    """Shell text that does it, and the findings that name it, with words of each. `mend` is what a
    person does where a remedy is no command."""

    does: str
    named: tuple[tuple[str, str], ...]
    mend: str = ""


STAGE = "finalstage stage"
OF_SYSTEMD = "printf '[systemd]\\nshutdown-tree = \"%s\"\\n' {} >/etc/finalstage.toml"

# Several at once where one does not hide another: each call takes seconds.
DAMAGES = (
    Damage(
        f"truncate -s 100000 {TREE}/usr/lib/finalstage/stage; echo : >>{LOOK_AFTER};"
        "systemctl disable finalstage.service",
        (
            ("tree", "is not what this program stages: usr/lib/finalstage/stage"),
            ("installed", f"{LOOK_AFTER} is not as it was installed"),
            ("unit", "finalstage.service is disabled"),
        ),
    ),
    Damage(f"mount -o remount,bind,noexec {TREE}", (("tree", "is mounted noexec"),)),
    Damage("echo 'width = 8' >/etc/finalstage.toml", (("current", "etc/finalstage.conf"),)),
    Damage(
        f"{STAGE} --stand-in; umount {TREE}; mount -t tmpfs theirs {TREE}",
        (
            ("tree", "is not finalstage's: tmpfs theirs"),
            ("caller", "the launcher of an older tree stands in"),
        ),
    ),
    Damage(
        f"{OF_SYSTEMD.format('other')}; umount {TREE}",
        (("tree", "is left to dracut"), ("caller", "the launcher of an older tree")),
        f"{OF_SYSTEMD.format('finalstage')}; {STAGE}",
    ),
)


def test_each_damage_is_named_and_its_remedy_mends_it() -> None:
    live(READY, damage_and_mend)


async def damage_and_mend(living: Living) -> None:
    """Try all of it on one machine, which is ready but for the first damage."""
    for damage in DAMAGES:
        await living.run(f"{ON_PATH}; {damage.does}")
        found, status = await checked(living)
        assert status == 1 and not found["ready"], damage
        wrong = {each["name"]: each for each in found["findings"] if each["verdict"] == "problem"}
        assert list(wrong) == [name for name, _ in damage.named], wrong
        for name, words in damage.named:
            assert words in wrong[name]["found"]
        remedies = dict.fromkeys(each["remedy"] for each in wrong.values())
        await living.run(f"{ON_PATH}; {damage.mend or '; '.join(remedies)}")
    found, status = await checked(living)
    assert status == 0 and found["ready"], found


async def checked(living: Living) -> tuple[Any, int]:
    """Check the machine; return what is said, and the status."""
    answer = await living.call("check", "--json")
    return json.loads(answer.text), answer.status
