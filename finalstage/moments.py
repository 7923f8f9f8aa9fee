"""The moments at which the administrator's own programs are run, which the tree carries along.

Those of one moment are run in the order of their names, with the tree as their root, where nothing
of the old root is to be seen: finalstage/launcher/hooks.c. None can hold what has to be closed, and
none goes on when its time is over. None is run twice, also where the stage dies and begins again.
"""

START, CLOSED, LAST = "start", "closed", "last"
"""Before anybody is asked to end; when all is closed and sealed; when nothing is left to do but
reboot(2), and no key is left."""

ALL = (START, CLOSED, LAST)

FOLDER = "/etc/finalstage/hooks"
"""In the tree, with a folder in it for each moment."""

SHARE = 1 / 8
"""How much of the whole those of one moment may take together."""
