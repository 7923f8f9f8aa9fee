"""What a start costs at least: a program that prints and does no more, frozen like the stage."""

import sys

sys.stdout.write("hello\n")
