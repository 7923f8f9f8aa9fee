"""Of which partition the tree is told, where the report is to be kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from finalstage.cli import config, fstab, setup
from finalstage.cli.problems import WrongError
from finalstage.cli.report import report_file
from finalstage.handover.options import CONFIGURATION
from finalstage.kernel import Kernel, Stat
from tests.unit.files_kernel import Files

MOUNTS = r"""1 1 0:2 / / rw - rootfs rootfs rw
20 1 8:2 / / rw - ext4 /dev/sda2 rw
21 20 8:1 / {0}/efi rw - vfat /dev/sda1 rw
22 20 8:1 /EFI/my\040own {0}/a\040b rw - vfat /dev/sda1 rw
23 20 8:1 / {0}/below rw - vfat /dev/sda1 rw
24 23 8:3 / {0}/below/ext4 rw - ext4 /dev/sda3 rw
25 20 259:1 / {0}/hidden rw - vfat /dev/nvme0n1p1 rw
26 20 0:40 / {0}/other rw - vfat /dev/cciss/c0d0p1 rw
"""


class Machine(Files):
    """One with these mounts; `devices` are on what directories lie."""

    def __init__(self, folder: Path) -> None:
        links = {"8:1": "../sda1", "0:40": "../../x/cciss!c0d0p1"}
        super().__init__(
            {"/proc/self/mountinfo": MOUNTS.format(folder)},
            {f"/sys/dev/block/{number}": link for number, link in links.items()},
        )
        self.devices = {
            f"{folder}/{name}": device
            for name, device in (
                *(("efi", "8:1"), ("efi/EFI", "8:1"), ("a b", "8:1"), ("below/ext4", "8:3")),
                *(("hidden", "8:2"), ("other", "0:40")),
            )
        }

    def stat(self, path: str) -> Stat:
        if path not in self.devices:
            raise FileNotFoundError(2, "No such file or directory", path)
        return Stat(0o040755, self.devices[path], 1, "0:0", 0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(fstab, "FSTAB", tmp_path / "fstab")
    return cast(Any, Machine(tmp_path))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("efi/report", "/dev/sda1//report"),
        ("efi/EFI/last report", "/dev/sda1//EFI/last report"),
        ("a b/report", "/dev/sda1//EFI/my own/report"),
        ("other/report", "/dev/cciss/c0d0p1//report"),
    ],
)
def test_by_what_is_mounted(machine: Kernel, tmp_path: Path, place: str, told: str) -> None:
    assert report_file.told(machine, f"{tmp_path}/{place}") == told
    assert report_file.is_on_vfat(machine, f"{tmp_path}/{place}")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("report", "it is no block device, and lies on ext4, not on vfat"),
        ("below/ext4/report", "it is no block device, and lies on ext4, not on vfat"),
        ("efi", "it is a directory"),
        ("efi/EFI", "it is a directory"),
        ("efi/none/report", "no such file or directory"),
        ("hidden/report", "its folder is not on what is mounted there; name it without links"),
    ],
)
def test_what_is_on_no_vfat_is_refused(
    machine: Kernel, tmp_path: Path, place: str, words: str
) -> None:
    with pytest.raises(WrongError, match=words):
        report_file.told(machine, f"{tmp_path}/{place}")
    assert not report_file.is_on_vfat(machine, f"{tmp_path}/{place}")


@pytest.mark.parametrize(
    ("source", "device"),
    [
        ("UUID=1234-ABCD", "/dev/disk/by-uuid/1234-ABCD"),
        ('PARTUUID="aa-01"', "/dev/disk/by-partuuid/aa-01"),
        ("/dev/sda9", "/dev/sda9"),
    ],
)
def test_by_fstab_before_it_is_mounted(
    machine: Kernel, tmp_path: Path, source: str, device: str
) -> None:
    lines = (
        f"/dev/x {tmp_path} ext4\n# y {tmp_path}/e\\040f vfat\n{source} {tmp_path}/e\\040f/ vfat"
    )
    (tmp_path / "fstab").write_text(f"{lines} umask=0077 0 2\n")
    place = f"{tmp_path}/e f/EFI/report"
    assert report_file.told(machine, place) == f"{device}//EFI/report"
    assert report_file.unmounted(place) == f"{tmp_path}/e f"
    assert report_file.unmounted(f"{tmp_path}/report") == ""


@pytest.mark.parametrize("place", ["auto", "efi", "/dev/sda1", "/dev/sda1//report"])
def test_other_places_stay_as_they_are(machine: Kernel, place: str) -> None:
    assert report_file.told(machine, place) == place


def test_the_tree_is_told_and_a_place_that_is_none_is_a_problem(
    machine: Kernel, tmp_path: Path
) -> None:
    place = tmp_path / "finalstage.toml"
    place.write_text(f'[report]\nplace = "{tmp_path}/boot/report"\n')
    place.chmod(0o644)
    (problem,) = setup.read(place).problems
    assert str(problem).startswith(
        f"{place}:2: no report can be kept in {tmp_path}/boot/report: it is no block device, and"
    )
    (tmp_path / "fstab").write_text(f"LABEL=ESP {tmp_path}/boot vfat\n")
    found = setup.read(place)
    assert found.problems == ()
    assert found.configuration.options.report_place == f"{tmp_path}/boot/report"
    told = b"report.place=/dev/disk/by-label/ESP//report\n"
    assert found.carried.contents[CONFIGURATION.lstrip("/")] == told
    assert config.read(place).values == {"report.place": f"{tmp_path}/boot/report"}
