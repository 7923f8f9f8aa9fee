"""The program that PyInstaller freezes as `dist/finalstage`."""

import os

from finalstage.cli import main

if __name__ == "__main__":
    status = main()  # which has written out what it says
    # Without taking the interpreter down: a thread that then wants to go on is ended by
    # pthread_exit, for which glibc loads libgcc_s, and aborts where that is not there.
    os._exit(status)
