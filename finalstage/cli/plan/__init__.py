"""`finalstage plan`: what lies on what, what would be done, and the forms in which it is shown."""
