"""How long closing takes by how many layers are closed at once, kind by kind."""

from __future__ import annotations

from dataclasses import replace

from tests.bench import figures
from tests.bench.contestants import FINALSTAGE_DIRECT
from tests.bench.run import measure
from tests.bench.stacks import TRIALS, Trial

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
KINDS = {
    "100 mounts": "100 ext4 and 150 mapped devices",
    "300 devices, 10 deep": "300 mapped devices",
    "200 images on LUKS": "200 ext4 and loop devices",
    "8 slow disks": "8 ext4 with much to write",
}
"""What is mostly closed in a trial."""


def trials() -> list[Trial]:
    """Those that are measured."""
    return [trial for trial in TRIALS if trial.name in KINDS]


def closing(trial: Trial, width: int) -> float:
    """Seconds of the close phase."""
    path = FINALSTAGE_DIRECT.path.replace("{verb}", f"{{verb}} --width={width}")
    measured = measure(trial, replace(FINALSTAGE_DIRECT, path=path))
    return figures.spans(measured.records, measured.offset, measured.seconds)["close"]
