"""`finalstage close`: what is closed and who holds it; and not to be in the way of those who live
on: udev, LVM, clusters, systemd.
"""
