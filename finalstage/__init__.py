"""finalstage: the last program a Linux machine runs."""

__version__ = "0.1.0"
