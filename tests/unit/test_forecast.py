"""What is foreseen of each layer, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from finalstage.cli.plan import forecast
from finalstage.cli.plan.facts import Facts, Seen
from finalstage.cli.plan.forecast import CLOSE, FLUSH, KEEP, REMAIN, SEAL, Fate
from finalstage.kernel import Kernel, Target
from finalstage.layers.dm import Dm
from finalstage.layers.loop import Loop
from finalstage.layers.mount import Mount
from finalstage.layers.swap import Swap
from finalstage.stack import Layer, Stack

STAGED = "/run/initramfs"
DISK = Layer("disk", "disk", "disk", "vda", device="8:0", closes=False, is_disk=True)


def crypt(id: str, *below: str, **more: Any) -> Dm:
    return Dm(id, "dm", "crypt", id, below, targets=(Target(0, 8, "crypt"),), **more)


def mount(target: str, *below: str, **more: Any) -> Mount:
    return Mount(target, "mount", more.pop("type", "ext4"), target, below, target=target, **more)


class Files:
    """A kernel of some files."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = {"/proc/1/comm": "systemd\n", **files}

    def read(self, path: str) -> bytes:
        try:
            return self.files[path].encode()
        except KeyError:
            raise FileNotFoundError(2, "", path) from None


def fates(
    *layers: Layer,
    staged: str = STAGED,
    files: Mapping[str, str] | None = None,
    daemons: frozenset[str] = frozenset(),
    facts: Mapping[str, Facts] | None = None,
) -> dict[str, Fate]:
    stack = Stack(layers)
    seen = Seen({layer.id: (facts or {}).get(layer.id, Facts()) for layer in layers}, daemons)
    return forecast.forecast(cast(Kernel, Files(files or {})), stack, seen, staged)


ROOT = (DISK, crypt("croot", "disk"), mount("/", "croot"))


def what(found: Mapping[str, Fate]) -> dict[str, str]:
    return {id: fate.what for id, fate in found.items()}


def test_root_and_what_it_stands_on_is_closed_after_the_pivot() -> None:
    found = fates(*ROOT, crypt("other", "disk"))
    assert what(found) == {"disk": FLUSH, "croot": CLOSE, "/": CLOSE, "other": CLOSE}
    assert [found[id].why for id in ("croot", "/", "other")] == ["after the pivot"] * 2 + [""]


def test_where_no_tree_is_staged_its_key_would_only_be_wiped() -> None:
    found = fates(*ROOT, staged="")
    assert what(found) == {"disk": FLUSH, "croot": SEAL, "/": REMAIN}
    assert "no tree is staged" in found["croot"].why


@pytest.mark.parametrize("init", forecast.PARENTS)
def test_so_it_is_where_finalstage_is_a_child(init: str) -> None:
    found = fates(*ROOT, files={"/proc/1/comm": f"{init}\n"})
    assert what(found) == {"disk": FLUSH, "croot": SEAL, "/": REMAIN}
    assert init in found["croot"].why


def test_the_tree_itself_stays() -> None:
    found = fates(*ROOT, mount(STAGED, type="tmpfs", shown=False))
    assert found[STAGED].what == KEEP


def test_what_stands_below_what_has_no_way_stays_and_loses_its_key() -> None:
    pool = Layer("pool", "drbd", "drbd", "drbd0", ("below",), device="147:0")
    found = fates(DISK, crypt("below", "disk"), pool, crypt("above", "pool"))
    assert what(found) == {"disk": FLUSH, "below": SEAL, "pool": REMAIN, "above": CLOSE}
    assert found["pool"].why == "only drbdsetup takes it down"
    assert found["below"].why == "held by drbd drbd0, which stays"


def test_what_is_held_by_whom_nobody_sees_stays() -> None:
    found = fates(DISK, crypt("secret", "disk"), facts={"secret": Facts(held_unseen=True)})
    assert found["secret"] == Fate(SEAL, "open, and nobody is seen who holds it")


def test_what_a_storage_daemon_holds_stays() -> None:
    held = {"/x": Facts(processes=("nbd-client[7] (open file)",))}
    layers = (DISK, crypt("secret", "disk"), mount("/x", "secret"))
    found = fates(*layers, daemons=frozenset(("nbd-client[7]",)), facts=held)
    assert what(found) == {"disk": FLUSH, "secret": SEAL, "/x": REMAIN}
    found = fates(*layers, facts=held)
    assert what(found) == {"disk": FLUSH, "secret": CLOSE, "/x": CLOSE}


def test_what_it_holds_of_the_kernels_own_file_systems_is_no_harm() -> None:
    held = {"/dev": Facts(processes=("nbd-client[7] (open file)",))}
    layers = (*ROOT, mount("/dev", "/", type="devtmpfs", shown=False))
    found = fates(*layers, daemons=frozenset(("nbd-client[7]",)), facts=held)
    assert {fate.what for fate in found.values()} == {FLUSH, CLOSE}


def test_what_a_mount_that_stays_is_mounted_on_can_go() -> None:
    stays = mount("/x", "/", "secret", places=("/",))
    held = {"/x": Facts(processes=("nbd-client[7] (open file)",))}
    layers = (*ROOT, crypt("secret", "disk"), stays)
    found = fates(*layers, daemons=frozenset(("nbd-client[7]",)), facts=held)
    assert {id for id, fate in found.items() if fate.stays} == {"/x", "secret"}


def test_swap_for_which_there_is_no_memory_stays() -> None:
    files = {
        "/proc/swaps": "Filename Type Size Used Priority\n/swap file 90000 81920 -2\n",
        "/proc/meminfo": "MemAvailable: 50000 kB\n",
    }
    area = Swap("swap:/swap", "swap", "swap", "/swap", ("secret",), path="/swap")
    found = fates(DISK, crypt("secret", "disk"), area, files=files)
    assert found["swap:/swap"] == Fate(REMAIN, "no memory for 80 MiB that are in it")
    assert found["secret"].what == SEAL
    files["/proc/meminfo"] = "MemAvailable: 500000 kB\n"
    assert fates(DISK, crypt("secret", "disk"), area, files=files)["secret"].what == CLOSE


def test_a_circle_with_a_loop_device_is_broken_and_another_stays() -> None:
    loop = Loop("loop", "loop", "loop", "loop0", ("/a",))
    found = fates(loop, crypt("inner", "loop"), mount("/a", "inner"))
    assert {fate.what for fate in found.values()} == {CLOSE}
    assert "loop device is taken away" in found["inner"].why
    found = fates(loop, mount("/a", "loop"))
    assert {fate.what for fate in found.values()} == {REMAIN}
    assert found["loop"].why.startswith("in a circle, ")


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (crypt("x", suspended=True), "is suspended, and goes on first"),
        (mount("x", type="nfs"), "given up if its server does not answer"),
        (
            Dm("x", "dm", "thin-pool", "x",
               targets=(Target(0, 8, "thin-pool", "1 out_of_data_space queue_if_no_space"),)),
            "has no space left: what does not fit into it is lost",
        ),
        (
            Dm("x", "dm", "multipath", "x", targets=(Target(0, 8, "multipath", "1 8:0 F 0"),)),
            "has no path left: what is queued for it is lost",
        ),
    ],
)  # fmt: skip
def test_what_there_is_to_know_is_said(layer: Layer, why: str) -> None:
    found = fates(layer)
    assert found[layer.id] == Fate(CLOSE, why)


def test_where_the_tree_is_staged_is_seen() -> None:
    line = "40 20 0:40 / /run/initramfs rw - tmpfs finalstage rw\n"
    files = {"/proc/self/mountinfo": line}
    assert forecast.staged_at(cast(Kernel, Files(files))) == STAGED
    files = {"/proc/self/mountinfo": line.replace(" finalstage ", " dracut ")}
    assert forecast.staged_at(cast(Kernel, Files(files))) == ""
    assert forecast.staged_at(cast(Kernel, Files({}))) == ""
