"""`finalstage install` and `uninstall`: what they change on a machine, or in an image."""
