"""`finalstage wipe-keys` on machines that live on, or do not: which keys are in RAM, and when."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.vm import content
from tests.vm.conftest import Happen
from tests.vm.content import File
from tests.vm.expected import Expected
from tests.vm.inits import down
from tests.vm.layers import Layer
from tests.vm.living import Living, live
from tests.vm.ram import Copies, patterns, search
from tests.vm.stacks import MAIN, SUMS

LATE = File("/data/late", 200_000)
DROP = "echo 3 >/proc/sys/vm/drop_caches"
ASIDE = "</dev/null >/dev/console 2>&1 &"

AT_ONCE = b"of 1 devices at once"
PRESSES = "/run/finalstage wipe-keys --all"
BUTTON = "/run/initramfs/wipe-keys"
FOLDER = "/run/trigger"
MOST_LOCKED = 4096
"""KiB that who waits may lock."""


async def copies(living: Living, *layers: Layer) -> Copies:
    """Stop the machine, count the keys of some layers, or of all, and let it go on."""
    await living.machine.qmp("stop")
    found = living.ram()
    if layers:
        part = replace(living.stack, layers=layers)
        wanted = patterns(part.keys, content.PLAINTEXT, part.mac_keys)
        found = search(living.machine.memory(), wanted)
    await living.machine.qmp("cont")
    return found


async def refused(living: Living, words: str, status: int, said: str) -> None:
    """See that one line says why nothing is done."""
    answer = await living.run(f"s=0; {words} 2>&1 || s=$?; echo $s")
    assert re.fullmatch(rf"finalstage: .*{said}.*\n{status}\n", answer.replace("\r", "")), answer


def test_a_signal_or_a_file_wipes_all_and_switches_off() -> None:
    """Pressed by a signal, while nothing of root's is cached any more; then a second one by a file
    goes on to power-off."""

    async def act(living: Living) -> None:
        machine = living.machine
        assert (await living.call("stage")).status == 0
        await living.run(f"mkdir -m 700 {FOLDER}; mkdir -m 777 /run/open; : >{FOLDER}/there")
        button = f"{BUTTON} --all --wait --on-file"
        for words, status, said in (
            (BUTTON, 2, "how it is called"),
            (f"{BUTTON} --all --reboot", 2, "how it is called"),
            (f"{button} now", 2, "by its whole path"),
            (f"{button} {FOLDER}/../now", 2, "by its whole path"),
            (f"{button}=/run/open/now", 1, "/run/open can be written to by others"),
            (f"{button} /run/open/sub/now", 1, "/run/open can be written to by others"),
            (f"{button} '/run/no such/now'", 1, "No such file or directory"),
            (f"{button} '/run/no\nsuch/now'", 2, "control characters in its name"),
            (f"{button} {FOLDER}/there", 1, "there already; remove it first"),
            (f"{button} {FOLDER}/there/now", 1, "is not a directory"),
        ):
            await refused(living, words, status, said)
        await living.run(LATE.write("").replace("/run/tray/", "/run/"))
        await living.run("sync")
        assert (await copies(living)).of_keys > 0
        off = f"{PRESSES} --wait --on-file {FOLDER}/now --poweroff"
        for command in (off, f"{PRESSES} --wait"):
            process = (await living.run(f"{command} {ASIDE} echo $!")).strip()
            await machine.seen(b"wipes all keys at SIGUSR1 to process %s" % process.encode())
        locked = await living.run(f"grep VmLck /proc/{process}/status")
        assert 0 < int(locked.split()[1]) < MOST_LOCKED
        await living.run(f"{DROP}; kill -USR1 {process}")
        await machine.seen(AT_ONCE)
        assert (await copies(living)).of_keys == 0
        await machine.seen(b"keys wiped 1, keys left 0")
        await machine.become(f": >{FOLDER}/now; while :; do read -r _; done")
        end = await machine.end(60)
        assert end.kind == "poweroff"
        assert living.ram().of_keys == 0
        verdict = await living.judged(LATE)
        assert verdict.damaged == []
        assert verdict.unclean == ["ext4:/ needs_recovery is 1, not 0"]

    live(MAIN, act, files=(LATE,))


def test_some_devices_alone_then_all_without_the_stage(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a machine with several; root goes on as long as it is not one of those that are meant. In
    the end the launcher does it alone, since the stage does not start."""
    root, others = SUMS.layers[0], SUMS.layers[2:]

    async def act(living: Living) -> None:
        for target, status, said in (
            ("/run", 1, "/run is no encrypted device"),
            ("no such\nthing", 2, "no such target"),
        ):
            answer = await living.call("wipe-keys", target)
            assert answer.status == status and said in answer.text, answer
            assert "\n" not in answer.text
        before = await copies(living, *others)
        assert before.round_keys > 0 and before.mac_states > 0
        answer = await living.call("wipe-keys", "/tags", "/sums")
        assert answer.status == 0, answer
        assert answer.text.count("I/O on it fails from now on") == 2
        assert (await copies(living, *others)).of_keys == 0
        assert (await copies(living, root)).of_keys > 0
        await living.run(DROP)
        assert await living.run("cat /tags/old >/dev/null 2>&1 || echo fails") == "fails\n"
        await living.run("cat /data/old >/dev/null")
        assert (await living.call("stage")).status == 0
        await living.run(f"chmod 644 /run/initramfs/usr/lib/finalstage/stage; {DROP}")
        await living.run(f"/run/timed {PRESSES} {ASIDE}")
        await living.machine.seen(b"sealing without the stage")
        await living.machine.seen(b" status ")
        assert (await copies(living)).of_keys == 0
        with capsys.disabled():  # when, by the guest's clock
            print("", *re.findall(r"timed .*", living.machine.console.decode()), sep="\n")

    live(SUMS, act, tools=("timed",))


def test_without_a_tree_it_stages_one_and_scrubs() -> None:
    """What was read of root is in freed memory too, until that is overwritten."""

    async def act(living: Living) -> None:
        await living.run(f"cat /data/secret >/dev/null; {DROP}")
        before = await copies(living)
        assert before.of_keys > 0 and before.plaintext > 100
        await living.run(f"{PRESSES} --scrub {ASIDE}")
        # It does not come back: what it has unpacked of itself on root it cannot remove.
        await living.machine.seen(b"keys wiped 1, keys left 0")
        after = await copies(living)
        assert after.of_keys == 0
        assert after.plaintext < 10

    live(MAIN, act)


UNIT = "finalstage-wipe-keys"
BY_UNIT = down(
    *("systemd", f"systemctl kill --signal=SIGUSR1 {UNIT}"),
    name="wipe-keys by its unit",
    before=(f"systemctl enable --now {UNIT}; [ -d /run/{UNIT} ]; sync",),
    files=(),
    expected=Expected(unclean=("ext4:/",)),
)


def test_its_unit_waits_and_switches_off(happen: Happen) -> None:
    """As it stands in the unit's own text."""
    assert not happen(BY_UNIT).problems, f"see {BY_UNIT.folder}"
