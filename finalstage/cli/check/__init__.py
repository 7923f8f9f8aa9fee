"""`finalstage check`: is this machine ready? A module for each thing that is looked at."""
