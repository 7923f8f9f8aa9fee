"""The program that PyInstaller freezes as `/usr/lib/finalstage/stage`.

All that is Python comes from libpython; only extensions are looked for, and in one folder.
"""

import sys

LIBRARIES: str = sys._MEIPASS  # type: ignore[attr-defined]  # set by the bootloader
sys.path[:] = [
    LIBRARIES,
    f"{LIBRARIES}/python{sys.version_info[0]}.{sys.version_info[1]}/lib-dynload",
]

import finalstage.kernel  # noqa: E402

finalstage.kernel.__path__.append(f"{LIBRARIES}/finalstage/kernel")

from finalstage import stage, wipe  # noqa: E402

if __name__ == "__main__":
    main = wipe.main if sys.argv[1:2] == [wipe.ASKED_FOR] else stage.main
    raise SystemExit(main(sys.argv))
