"""The program that PyInstaller freezes as `/usr/lib/finalstage/stage`."""

import sys

from finalstage.stage import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv))
