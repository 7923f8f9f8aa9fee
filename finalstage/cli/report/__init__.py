"""`finalstage report`: what happened at the last shutdown, wherever that was kept."""
