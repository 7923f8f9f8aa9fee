"""The manual pages: written for scdoc(1), with the options as finalstage/handover knows them."""

import os
import shutil
import subprocess
from pathlib import Path

from cffi_build import project
from finalstage import __version__
from finalstage.cli import keys

SOURCES = project.ROOT / "finalstage/man"
MAN = project.DIST / "man"


def build_pages() -> None:
    """Writes each page to dist/man/manSECTION/."""
    shutil.rmtree(MAN, ignore_errors=True)
    for source in sorted(SOURCES.glob("*.scd")):
        page = MAN / f"man{source.stem[-1]}" / source.stem
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(render(source))


def render(source: Path) -> str:
    """The page that scdoc makes of a source, as troff."""
    text = source.read_text().replace("@VERSION@", __version__).replace("@KEYS@", keys.scdoc())
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(project.source_date())}
    ran = subprocess.run(
        ["scdoc"], input=text, capture_output=True, text=True, env=environment, check=False
    )
    if ran.returncode != 0:
        raise project.die(f"scdoc does not accept {source.name}: {ran.stderr.strip()}")
    return ran.stdout
