"""What the root of a live system is made of: an image that nobody can change, and a fast cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tests.vm.layers.base import Common, copy, placed, writable
from tests.vm.layers.mounts import Image, image


@dataclass(frozen=True)
class Verified(Common):
    """A dm-verity device over the image in the file `file`, by two loop devices: the image and,
    in a file of its own, the sums. What these begin with stands in a third."""

    name: str
    file: str

    modules: ClassVar[tuple[str, ...]] = ("loop", "dm-verity")
    programs: ClassVar[tuple[str, ...]] = ("sbin/veritysetup", *Image.programs)
    below: ClassVar[tuple[str, ...]] = ()
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"verity {self.name} of {self.file}"

    def build(self) -> str:
        file = placed(self.file)
        return f"""
            {image("squashfs", file)}
            truncate -s 1M {file}.sums
            veritysetup format {file} {file}.sums |
                sed -n 's/^Root hash:[[:space:]]*//p' >{file}.root
            {self._open()}"""

    def judge(self) -> str:
        return f"opens {self.name} eval '{self._open()}'"

    def _open(self) -> str:
        file = placed(self.file)
        return f"""
            image=$(losetup -f) && losetup -r $image {file} &&
            sums=$(losetup -f) && losetup -r $sums {file}.sums &&
            veritysetup open $image {self.name} $sums $(cat {file}.root)"""


@dataclass(frozen=True)
class WriteCached(Common):
    """A device that is written to by way of the faster `cache`, and only later to `lower`."""

    name: str
    lower: str
    cache: str

    modules: ClassVar[tuple[str, ...]] = ("dm-writecache",)
    clean: ClassVar[Mapping[str, str]] = {"opens": "yes"}

    @property
    def title(self) -> str:
        return f"writecache {self.name}"

    @property
    def below(self) -> tuple[str, ...]:
        return (self.lower, self.cache)

    def build(self) -> str:
        return self._create(f"/dev/{self.lower}", f"/dev/{self.cache}")

    def judge(self) -> str:
        """What is still in the cache is part of it; to open it is to write there."""
        places = (f"/dev/mapper/{copy(each)}" for each in self.below)
        return f"""
            {writable(self.lower)}
            {writable(self.cache)}
            opens {self.name} eval '{self._create(*places)}'"""

    def _create(self, lower: str, cache: str) -> str:
        return (
            f'echo "0 $(blockdev --getsz {lower}) writecache s {lower} {cache} 4096 0" |'
            f" dmsetup create {self.name}"
        )
