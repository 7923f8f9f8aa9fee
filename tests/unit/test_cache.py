"""The folders that tests build once and share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm import cache


def _age(folder: Path) -> None:
    os.utime(folder, (0, 0))


def test_what_is_long_unused_is_removed_but_not_what_is_being_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BUILD", tmp_path)

    def build_with_an_old_date(target: Path) -> None:
        _age(cache.once("unused", Path.touch))
        (target / "content").touch()
        _age(target)
        cache.once("other", Path.touch)
        assert not (tmp_path / "unused").exists()
        assert (target / "content").exists()

    done = cache.once("slow", build_with_an_old_date)
    assert (done / "content").exists()
    assert cache.once("slow", build_with_an_old_date) == done
