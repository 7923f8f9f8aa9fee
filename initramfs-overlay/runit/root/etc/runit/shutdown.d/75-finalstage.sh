# Read by stage 3, on Void Linux and others, when processes have been ended and before file systems
# are unmounted. Comes back only where it fails, and then stage 3 goes on.
/usr/lib/finalstage/hand-over
