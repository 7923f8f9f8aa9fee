"""The program that PyInstaller freezes as `dist/finalstage`."""

import os
import sys

from finalstage.cli import main

if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Without taking the interpreter down: a thread that then wants to go on is ended by
    # pthread_exit, for which glibc loads libgcc_s, and aborts where that is not there.
    os._exit(status)
