# Read by stage 1, on Void Linux and others.
/usr/local/sbin/finalstage stage
