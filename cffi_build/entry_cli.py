"""The program that PyInstaller freezes as `dist/finalstage`."""

from finalstage.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
